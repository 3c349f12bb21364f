"""One demonstration, whatever it came from: the shape every source hands to the builder.

T is the number of time steps. Row t holds what the policy saw at t and the ABSOLUTE target one step ahead, so the chunk
that starts at t is ``actions[t : t + h]``: its entry k is the target for k + 1 steps after t, never the present pose.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np


@dataclass(frozen=True)
class Episode:
    """A demonstration with its images still encoded.

    Attributes:
      task: name of the task in its simulator or data set.
      variation: which variant of the task.
      seed: what the simulator was reset with (-1 where unknown).
      instructions: every paraphrase of what was asked, the plainest first.
      images: {camera: T encoded PNG or JPEG files}.
      state: float32 [T, s] proprioception.
      actions: float32 [T, 8] targets one step ahead: x y z (m, world), qx qy qz qw (unit, w >= 0), gripper (0 .. 1
        open).
    """

    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    images: Mapping[str, Sequence[bytes]]
    state: np.ndarray
    actions: np.ndarray

    def __post_init__(self):
        steps = len(self.state)
        if self.actions.shape != (steps, 8):
            raise ValueError(f"actions of {self.task} have shape {self.actions.shape}; expected ({steps}, 8)")
        if not self.instructions:
            raise ValueError(f"an episode of {self.task} has no instruction")
        for camera, frames in self.images.items():
            if len(frames) != steps:
                raise ValueError(f"camera {camera} of {self.task} has {len(frames)} frames; expected {steps}")

    def __len__(self) -> int:
        return len(self.state)

    def save(self, path: Path) -> None:
        """Writes one .npz file atomically: a reader sees the whole episode or none."""
        arrays = {"state": self.state, "actions": self.actions, "instructions": np.array(self.instructions)}
        arrays["about"] = np.array([self.task, str(self.variation), str(self.seed)])
        for camera, frames in self.images.items():
            arrays[f"bytes/{camera}"] = np.frombuffer(b"".join(frames), np.uint8)
            arrays[f"sizes/{camera}"] = np.array([len(f) for f in frames], np.int64)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        partial = path.with_suffix(".partial")
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Episode:
        """Reads what ``save`` wrote (no pickle)."""
        with np.load(path, allow_pickle=False) as arrays:
            images = {}
            for key in arrays.files:
                if key.startswith("bytes/"):
                    camera = key.removeprefix("bytes/")
                    ends = np.cumsum(arrays[f"sizes/{camera}"])
                    data = arrays[key].tobytes()
                    images[camera] = [data[a:b] for a, b in zip([0, *ends[:-1]], ends)]
            task, variation, seed = arrays["about"].tolist()
            return cls(
                task=task,
                variation=int(variation),
                seed=int(seed),
                instructions=tuple(arrays["instructions"].tolist()),
                images=images,
                state=arrays["state"],
                actions=arrays["actions"],
            )


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, 3] RGB as PNG (lossless, fast compression)."""
    return cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()


def decode_image(data: bytes) -> np.ndarray:
    """Decodes a PNG or JPEG file to uint8 [H, W, 3] RGB; raises ValueError on a damaged one."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"an encoded image of {len(data)} bytes cannot be decoded; rebuild the data set")
    return image
