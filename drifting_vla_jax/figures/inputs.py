"""What training leaves for the figures: one file of arrays per snapshot, DIR/figures/snapshots/<step>.npz.

    b held-out observations   g samples of each   h steps of a chunk   t temperatures
    n time steps of one held-out episode   v camera views   r patches along a picture's side

Network units are standard deviations of the training data (``data/normalization.py``): x y z, two columns of the rotation
matrix, gripper. Physical units are x y z in metres (world), the quaternion x y z w, and the gripper from 0 (closed) to 1.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

_SHAPES = {
    "temperatures": "t",
    "samples": "b g h 10",
    "drift": "b g h 10",
    "drift_rms": "t",
    "target": "b h 10",
    "mask": "b h 10",
    "chunks": "b g h 8",
    "wanted": "b h 8",
    "task": "b",
    "position": "b 3",
    "frames": "n v height width 3",
    "episode_chunks": "n g h 8",
    "episode_wanted": "n h 8",
    "episode_mask": "n h",
    "episode_position": "n 3",
    "episode_steps": "n",
    "attention": "n views r r",
}


@dataclass(frozen=True)
class FigureInputs:
    """A policy's answers at one step of training, beside what the demonstrations did.

    Attributes:
      step: of training.
      control_hz: targets per second.
      tasks: names; ``task`` points into them.
      temperatures: tau of the drifting field.
      samples, drift, target, mask: b held-out observations in network units: answers, where the raw field (not normalised,
        mean over temperatures) carries each, the expert chunk, and 1 where an entry counts (neither padding nor constant).
      drift_rms: of each temperature's raw field.
      chunks, wanted: answers and expert chunks of the same observations in physical units.
      position: the present end effector, m.
      episode_task, instruction, cameras: of one held-out episode, the fields below in the order of time.
      frames: uint8 pictures.
      episode_chunks, episode_wanted, episode_position: as above.
      episode_mask: 1 where an expert step is real.
      episode_steps: control steps since the episode began.
      attention: share of the action tokens' cross-attention on each patch of each view, mean over heads, layers and
        tokens; sums to at most 1 over a time step. Without views (v = 0) where it is not known.

    Raises:
      ValueError: an array has another shape than the others imply.
    """

    step: int
    control_hz: float
    tasks: tuple[str, ...]
    temperatures: np.ndarray
    samples: np.ndarray
    drift: np.ndarray
    drift_rms: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    chunks: np.ndarray
    wanted: np.ndarray
    task: np.ndarray
    position: np.ndarray
    episode_task: str
    instruction: str
    cameras: tuple[str, ...]
    frames: np.ndarray
    episode_chunks: np.ndarray
    episode_wanted: np.ndarray
    episode_mask: np.ndarray
    episode_position: np.ndarray
    episode_steps: np.ndarray
    attention: np.ndarray

    def __post_init__(self):
        sizes: dict[str, int] = {"v": len(self.cameras)}
        for name, axes in _SHAPES.items():
            shape = np.shape(getattr(self, name))
            expected = [int(axis) if axis.isdigit() else sizes.get(axis) for axis in axes.split()]
            if len(shape) != len(expected) or any(e not in (None, s) for s, e in zip(shape, expected, strict=True)):
                raise ValueError(f"a snapshot's {name} has shape {shape}; expected [{axes}] with {sizes}")
            sizes |= {axis: size for axis, size in zip(axes.split(), shape, strict=True) if not axis.isdigit()}

    def save(self, path: str | Path) -> None:
        """Writes a .npz file, there whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(partial, "wb") as file:
                np.savez_compressed(file, **{field.name: _stored(getattr(self, field.name)) for field in fields(self)})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> FigureInputs:
        """Reads what ``save`` wrote.

        Raises:
          FileNotFoundError: no such file.
          ValueError: the file is damaged, or of another version of this class.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{field.name: _plain(stored[field.name]) for field in fields(cls)})
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged or of another version: {error}") from error


def _stored(value) -> np.ndarray:
    return np.array(value, str) if isinstance(value, tuple) else np.asarray(value)


def _plain(value: np.ndarray):
    """Numbers and text without an axis as Python has them, lists of names as tuples, other arrays as they are."""
    if value.ndim == 0:
        return value.item()
    return tuple(value.tolist()) if value.dtype.kind == "U" else value
