"""A recorded episode in place of an arm: what a policy would command, beside what was demonstrated. Nothing moves.

The driver shows row after row of the episode, one further with every command, whatever was commanded: so the policy
always sees what the demonstrator saw. Each command is compared with the row's recorded target.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.robot.driver import Driver, RobotState
from drifting_vla_jax.robot.safety import angle_between

MARGIN_M, ROOM = 0.02, 1.5  # of suggested limits: around the demonstrated box, and over the largest demonstrated step


class ReplayDriver(Driver):
    """A driver that plays an episode file (``core/episode.py``): its position is the state's first three numbers, its
    rotation and gripper those of the target before.

    Attributes:
      episode: what is played.
      commanded: [8] of each row so far.
    """

    def __init__(self, path: Path):
        """Raises OSError, ValueError: there is no episode file."""
        try:
            self.episode = Episode.load(path)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is no episode file ({error}); data.export --format=episodes makes some, so does recording"
            ) from error
        self.cameras = tuple(self.episode.images)
        self.commanded: list[np.ndarray] = []

    def read(self) -> RobotState:
        row = min(len(self.commanded), len(self.episode) - 1)
        before = self.episode.actions[max(row - 1, 0)].astype(np.float64)
        images = {camera: decode_image(frames[row]) for camera, frames in self.episode.images.items()}
        state = self.episode.state[row]
        pose = np.concatenate([state[:3], before[3:7] / np.linalg.norm(before[3:7])])
        return RobotState(images, pose, float(before[7]), time.monotonic(), state)

    def command(self, pose: np.ndarray, gripper: float) -> None:
        self.commanded.append(np.append(pose, gripper))

    def hold(self, pose: np.ndarray, gripper: float) -> None:
        """Waits: a hold is no row's command."""

    def stop(self) -> None:
        """There is nothing that moves."""

    def reset(self) -> None:
        self.commanded = []

    def close(self) -> None:
        """There is nothing to free."""


def compare(commanded: np.ndarray, demonstrated: np.ndarray) -> dict[str, float]:
    """How far commands [n, 8] are from demonstrated targets [n, 8]: centimetres, degrees, share of equal gripper words."""
    position = 100 * np.linalg.norm(commanded[:, :3] - demonstrated[:, :3], axis=1)
    degrees = np.degrees(angle_between(commanded[:, 3:7], demonstrated[:, 3:7]))
    return {
        **{f"position_cm_{name}": float(f(position)) for name, f in _OF.items()},
        **{f"rotation_deg_{name}": float(f(degrees)) for name, f in _OF.items()},
        "gripper_agrees": float(np.mean((commanded[:, 7] > 0.5) == (demonstrated[:, 7] > 0.5))),
    }


_OF = {"mean": np.mean, "p95": lambda values: np.percentile(values, 95), "max": np.max}


def suggested_limits(episode: Episode) -> dict:
    """Limits that let this demonstration pass, with some room: a start for a file of your own, no judgement on safety."""
    actions = episode.actions.astype(np.float64)
    positions = np.concatenate([episode.state[:1, :3].astype(np.float64), actions[:, :3]])
    step = float(np.linalg.norm(np.diff(positions, axis=0), axis=1).max())
    turn = float(np.degrees(angle_between(actions[1:, 3:7], actions[:-1, 3:7])).max()) if len(actions) > 1 else 0.0
    return {
        "low": np.round(positions.min(0) - MARGIN_M, 3).tolist(),
        "high": np.round(positions.max(0) + MARGIN_M, 3).tolist(),
        "step_m": round(max(ROOM * step, 0.001), 4),
        "step_deg": round(max(ROOM * turn, 1.0), 1),
        "lead_m": round(max(3 * ROOM * step, 0.01), 4),
        "timeout_s": 0.5,
        "stale_s": 0.2,
    }


def report(driver: ReplayDriver) -> str:
    """What was commanded beside what was demonstrated, and limits that would let the demonstration pass."""
    done = len(driver.commanded)
    errors = compare(np.stack(driver.commanded), driver.episode.actions[:done].astype(np.float64))
    lines = [f"dry run, {done} of {len(driver.episode)} rows: commanded - demonstrated        mean     p95     max"]
    for name, unit in (("position", "cm"), ("rotation", "deg")):
        values = "".join(f"{errors[f'{name}_{unit}_{key}']:8.2f}" for key in _OF)
        lines.append(f"  {name + ', ' + unit:50}{values}")
    lines.append(f"  gripper: the same word in {100 * errors['gripper_agrees']:.0f} % of the rows")
    lines.append(f"limits that would let this demonstration pass: {json.dumps(suggested_limits(driver.episode))}")
    return "\n".join(lines)
