"""What a policy did, kept as episodes that become data: a file each, as demonstrations have it (``core/episode.py``).

    OUT/rollouts/about.json                what they have in common: cameras, picture size, names of the state, rate
    OUT/rollouts/TASK-vV-sSEED.npz         row t: what the policy was shown at t, and the target that was then commanded

``data.export --data=OUT`` writes them as a LeRobot data set, ``data.build --source=rollouts --input=OUT`` makes a data
set of them. Pictures are kept as they are while an episode runs and encoded after it: nothing waits for a PNG.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drifting_vla_jax.core.episode import ABOUT, ROLLOUTS, Episode, encode_png
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.envs.base import EnvObservation

if TYPE_CHECKING:
    from drifting_vla_jax.rollout.episode import EpisodeSpec


@dataclass(frozen=True)
class RolloutsAbout:
    """What the episodes of a folder have in common.

    Attributes:
      cameras, image_size: the policy's views in order; pixels of a square side.
      state_names: what each entry of the state is.
      control_hz: rows per second.
      environment: the simulator, or the arm's driver.
      checkpoint_step, config_hash: whose doing it was.
    """

    cameras: tuple[str, ...]
    image_size: int
    state_names: tuple[str, ...]
    control_hz: float
    environment: str
    checkpoint_step: int
    config_hash: str

    @classmethod
    def of(cls, metadata: Mapping, environment: str, state_names: Sequence[str], control_hz: float) -> RolloutsAbout:
        """For the policy behind a server's metadata."""
        names = ("image_size", "checkpoint_step", "config_hash")
        return cls(
            cameras=tuple(metadata["cameras"]),
            state_names=tuple(state_names),
            control_hz=control_hz,
            environment=environment,
            **{name: metadata[name] for name in names},
        )


class TrajectoryWriter:
    """One episode's rows, as it goes: ``add`` at every control step, ``save`` at its end."""

    def __init__(self):
        self._images: list[Mapping[str, np.ndarray]] = []
        self._states: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, observation: EnvObservation, action: np.ndarray) -> None:
        """What was seen (with its images) and the target [8] that was commanded then."""
        self._images.append({camera: np.array(image) for camera, image in observation.images.items()})
        self._states.append(np.array(observation.state, np.float32))
        action = np.array(action, np.float32)
        action[3:7] *= np.float32(-1 if action[6] < 0 else 1)
        self._actions.append(action)

    def save(self, out: Path, about: RolloutsAbout, spec: EpisodeSpec, instruction: str, success: bool | None) -> Path:
        """Writes the episode, and what it shares with the others, under ``out``; returns its file."""
        folder = out / ROLLOUTS
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ABOUT, json.dumps(asdict(about), indent=1) + "\n")
        path = folder / f"{spec.task}-v{spec.variation}-s{spec.seed}.npz"
        Episode(
            task=spec.task,
            variation=spec.variation,
            seed=spec.seed,
            instructions=(instruction,),
            images={camera: [encode_png(seen[camera]) for seen in self._images] for camera in about.cameras},
            state=np.stack(self._states),
            actions=np.stack(self._actions),
            success=success,
        ).save(path)
        return path


def wanted(record: str, success: bool | None) -> bool:
    """Whether an episode that ended so is kept, ``record`` being one of ``RECORDS``."""
    return record == "all" or (record == "success" and success is True)
