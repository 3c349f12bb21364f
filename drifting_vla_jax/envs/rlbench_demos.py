"""Stored RLBench episodes, as far as a simulator needs them: to start where one started, and to repeat what it did.

    ROOT/<task>/all_variations/episodes/episode<N>/   PerAct's tree: variation_number.pkl beside low_dim_obs.pkl
    ROOT/<task>/variation<K>/episodes/episode<N>/     stepjam's tree: the variation is the folder's number

ROOT is a split, e.g. data/rlbench/test. In PerAct's tree an episode's number is its folder's; in stepjam's it is its place,
counted over the variations. The scene is that of the random state numpy had before it was laid out. Nothing of a file
is run (see unpickle.py); neither rlbench nor pyrep is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drifting_vla_jax.envs import unpickle

_EPISODE = re.compile(r"episode(\d+)")
_VARIATION = re.compile(r"variation(\d+)")


@dataclass(frozen=True)
class StoredEpisode:
    """One recorded demonstration.

    Attributes:
      folder: where it lies.
      variation: which of the task's.
      descriptions: its instruction in several wordings, the plainest first; empty where none are stored.
      random_state: what numpy.random.set_state takes; the scene follows from it on the RLBench that recorded it.
      reset_attempts: how often stepjam's RLBench laid out the scene until it was valid; None: not recorded.
      poses: float64 [t, 7], x y z (metres, world) and unit qx qy qz qw of the gripper at 20 Hz.
      gripper: float64 [t], 1 open or 0 closed, as measured.
    """

    folder: Path
    variation: int
    descriptions: tuple[str, ...]
    random_state: tuple
    reset_attempts: int | None
    poses: np.ndarray
    gripper: np.ndarray

    def actions(self) -> np.ndarray:
        """The recording as targets, float32 [t - 1, 8]: the pose and opening of the next time step, qw >= 0."""
        actions = np.concatenate([self.poses[1:], self.gripper[1:, None]], axis=1)
        actions[:, 3:7] *= np.where(actions[:, 6:7] < 0, -1.0, 1.0)
        return actions.astype(np.float32)


def folders(root: Path, task: str) -> dict[int, Path]:
    """Every stored episode of a task by its number; stray files are ignored.

    Raises:
      FileNotFoundError: there are none; the message says what was looked for.
    """
    base = Path(root) / task
    found = {number: path for number, path in _numbered(base / "all_variations" / "episodes", _EPISODE)}
    if not found:
        variations = [path for _, path in _numbered(base, _VARIATION)]
        paths = [path for variation in variations for _, path in _numbered(variation / "episodes", _EPISODE)]
        found = dict(enumerate(paths))
    if not found:
        raise FileNotFoundError(
            f"no stored episodes of {task} under {root}; expected {task}/all_variations/episodes/episode0 ... there "
            "(a split of python -m drifting_vla_jax.data.download)"
        )
    return found


def folder(root: Path, task: str, number: int) -> Path:
    """Where a stored episode lies; ValueError if there is none of this number."""
    known = folders(root, task)
    if number not in known:
        numbers = f"{min(known)} .. {max(known)}"
        raise ValueError(f"no stored episode {number} of {task} under {root}; it has {len(known)}, numbered {numbers}")
    return known[number]


def variation(root: Path, task: str, number: int) -> int:
    """The variation of a stored episode; cheap."""
    return _variation(folder(root, task, number))


def load(root: Path, task: str, number: int) -> StoredEpisode:
    """Reads a stored episode without its images.

    Raises:
      ValueError: no such episode, or a file that is damaged or asks for something that is not read.
      OSError: a file is missing.
    """
    path = folder(root, task, number)
    demo = unpickle.load(path / "low_dim_obs.pkl")
    try:
        observations = demo._observations
        poses = np.array([o.gripper_pose for o in observations], np.float64)
        gripper = np.array([o.gripper_open for o in observations], np.float64)
        state, attempts = demo.random_seed, getattr(demo, "num_reset_attempts", None)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path / 'low_dim_obs.pkl'} is no recorded demonstration: {error}") from error
    if poses.shape != (len(observations), 7) or gripper.shape != (len(observations),) or not np.isfinite(poses).all():
        raise ValueError(
            f"{path / 'low_dim_obs.pkl'} has gripper poses of shape {poses.shape}; expected [t, 7], finite"
        )
    written = path / "variation_descriptions.pkl"
    if not written.is_file():
        written = path.parents[1] / "variation_descriptions.pkl"  # stepjam's place
    descriptions = unpickle.load(written) if written.is_file() else []
    if not isinstance(descriptions, list) or not all(isinstance(text, str) for text in descriptions):
        raise ValueError(f"{written} holds no list of instructions")
    return StoredEpisode(
        folder=path,
        variation=_variation(path),
        descriptions=tuple(descriptions),
        random_state=_random_state(state, path),
        reset_attempts=attempts if isinstance(attempts, int) else None,
        poses=poses,
        gripper=gripper,
    )


def _random_state(state: Any, path: Path) -> tuple:
    """Checked, so that numpy is handed nothing but a Mersenne twister's state."""
    parts = tuple(state) if isinstance(state, (tuple, list)) else ()
    keys = np.asarray(parts[1]) if len(parts) == 5 else np.empty(0)
    if len(parts) != 5 or parts[0] != "MT19937" or keys.shape != (624,) or keys.dtype.kind not in "ui":
        raise ValueError(f"{path / 'low_dim_obs.pkl'} has no random state to restore; expected that of an MT19937")
    return "MT19937", keys.astype(np.uint32), int(parts[2]), int(parts[3]), float(parts[4])


def _variation(path: Path) -> int:
    of_folder = _VARIATION.fullmatch(path.parents[1].name)
    if of_folder:
        return int(of_folder[1])
    number = np.asarray(unpickle.load(path / "variation_number.pkl"))
    if number.shape != () or number.dtype.kind not in "ui" or number < 0:
        raise ValueError(f"{path / 'variation_number.pkl'} holds {number!r:.40}; expected a whole number, 0 or more")
    return int(number)


def _numbered(parent: Path, pattern: re.Pattern) -> list[tuple[int, Path]]:
    """Sub-folders of this name by their number, 2 before 10."""
    children = [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    matches = [(pattern.fullmatch(path.name), path) for path in children]
    return sorted((int(match[1]), path) for match, path in matches if match)
