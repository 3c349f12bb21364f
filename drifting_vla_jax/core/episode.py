"""One episode and its file, whatever it came from: a demonstration, or what a policy did.

T is the number of time steps. Row t holds what the policy saw at t and the ABSOLUTE target one step ahead, so the chunk
that starts at t is ``actions[t : t + h]``: its entry k is the target for k + 1 steps after t, never the present pose.
With a stride or with keyframes it is some of the later rows (``actions.chunk_indices``).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from drifting_vla_jax.core import text
from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.files import fingerprint, write_atomically

ROLLOUTS = "rollouts"  # the folder with episodes that a policy left behind
ABOUT = "about.json"  # in it: what they have in common
NAME_LENGTH, NAME_BYTES = 60, 180  # characters and bytes of a task's name, at most: it becomes a file's


@dataclass(frozen=True)
class Episode:
    """An episode with its images still encoded.

    Attributes:
      task: name of the task in its simulator or data set.
      variation: which variant of the task.
      seed: what the simulator was reset with (-1 where unknown).
      instructions: every paraphrase of what was asked, the plainest first.
      images: {camera: T encoded PNG or JPEG files}.
      state: float32 [T, s] proprioception.
      actions: float32 [T, k] targets one step ahead: x y z (m, world), qx qy qz qw (unit, w >= 0), gripper (0 .. 1
        open), or what its layout says.
      keyframes: rows whose action is a keyframe, ascending, the last row among them; None where they are not known.
      success: whether a policy did what it was asked for; None of a demonstration, and where nobody said.
      layout: what the numbers of an action are.
    """

    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    images: Mapping[str, Sequence[bytes]]
    state: np.ndarray
    actions: np.ndarray
    keyframes: tuple[int, ...] | None = None
    success: bool | None = None
    layout: ActionLayout = END_EFFECTOR

    def __post_init__(self):
        steps = len(self.state)
        if self.actions.shape != (steps, self.layout.dim):
            expected = (steps, self.layout.dim)
            raise ValueError(f"actions of {self.task} have shape {self.actions.shape}; expected {expected}")
        if not self.instructions:
            raise ValueError(f"an episode of {self.task} has no instruction")
        for said in (self.task, *self.instructions):
            if wrong := text.problem(said):
                raise ValueError(f"an episode's task or instruction {wrong}: {text.shown(repr(said), 80)}")
        if self.keyframes is not None and (
            list(self.keyframes) != sorted(set(self.keyframes)) or not self.keyframes or self.keyframes[-1] != steps - 1
        ):
            raise ValueError(
                f"keyframes of {self.task} are {self.keyframes}; expected ascending rows up to {steps - 1}"
            )
        for camera, frames in self.images.items():
            if len(frames) != steps:
                raise ValueError(f"camera {camera} of {self.task} has {len(frames)} frames; expected {steps}")

    def __len__(self) -> int:
        return len(self.state)

    def fingerprint(self) -> str:
        """Names the whole content: the same for the same episode, wherever it came from."""
        about = [self.task, self.variation, self.seed, list(self.instructions), self.keyframes, self.success]
        parts = [self.layout.to_json(), self.state, self.actions]
        pictures = [fingerprint(camera, *frames) for camera, frames in self.images.items()]
        return fingerprint(about, *parts, pictures)

    def save(self, path: Path) -> None:
        """Writes one .npz file atomically: a reader sees the whole episode or none."""
        arrays = {"state": self.state, "actions": self.actions, "instructions": np.array(self.instructions)}
        arrays["about"] = np.array([self.task, str(self.variation), str(self.seed)])
        if self.keyframes is not None:
            arrays["keyframes"] = np.array(self.keyframes, np.int64)
        if self.success is not None:
            arrays["success"] = np.array(self.success)
        if self.layout != END_EFFECTOR:
            arrays["layout"] = np.array(json.dumps(self.layout.to_json()))
        for camera, frames in self.images.items():
            arrays[f"bytes/{camera}"] = np.frombuffer(b"".join(frames), np.uint8)
            arrays[f"sizes/{camera}"] = np.array([len(f) for f in frames], np.int64)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, images: bool = True) -> Episode:
        """Reads what ``save`` wrote (no pickle), all of it or without the images.

        Raises:
          ValueError: it is damaged or something else.
        """
        try:
            return cls._load(path, images)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
            said = str(error).splitlines() or [type(error).__name__]
            raise ValueError(
                f"{path} is no whole episode: {said[0]}; delete it, or move it away, and start again"
            ) from error

    @classmethod
    def _load(cls, path: Path, images: bool) -> Episode:
        with np.load(path, allow_pickle=False) as arrays:
            frames = {}
            for key in arrays.files:
                if images and key.startswith("bytes/"):
                    camera = key.removeprefix("bytes/")
                    ends = np.cumsum(arrays[f"sizes/{camera}"])
                    data = arrays[key].tobytes()
                    frames[camera] = [data[a:b] for a, b in zip([0, *ends[:-1]], ends)]
            task, variation, seed = arrays["about"].tolist()
            return cls(
                task=task,
                variation=int(variation),
                seed=int(seed),
                instructions=tuple(arrays["instructions"].tolist()),
                images=frames,
                state=arrays["state"],
                actions=arrays["actions"],
                keyframes=tuple(arrays["keyframes"].tolist()) if "keyframes" in arrays.files else None,
                success=bool(arrays["success"]) if "success" in arrays.files else None,
                layout=ActionLayout.from_json(json.loads(str(arrays["layout"])) if "layout" in arrays.files else None),
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


def square(image: np.ndarray, size: int, fit: str) -> np.ndarray:
    """uint8 [size, size, 3] of uint8 [height, width, 3]: the middle square ("crop"), or all of it amid black ("pad").

    ``size`` 0 keeps the pixels as they are. Averaged if made smaller, interpolated if larger.
    """
    height, width = image.shape[:2]
    if height != width and fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    elif height != width:
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        image = np.pad(image, ((top, side - height - top), (left, side - width - left), (0, 0)))
    if size and size != len(image):
        how = cv2.INTER_AREA if size < len(image) else cv2.INTER_LINEAR
        image = cv2.resize(image, (size, size), interpolation=how)
    return np.ascontiguousarray(image)


def task_name(instruction: str) -> str:
    """An instruction as a task's name: small letters and digits, words joined by "-"; what has none is told by a digest."""
    name = re.sub(r"[^\w]+", "-", text.normalized(instruction).lower()).strip("-")[:NAME_LENGTH]
    name = name.encode()[:NAME_BYTES].decode(errors="ignore").strip("-")
    if name or instruction.isascii():
        return name or "unnamed"
    return f"unnamed-{hashlib.sha256(instruction.encode()).hexdigest()[:8]}"
