"""Augmentation of pictures on the host: a shift, a contrast and a brightness for every view, drawn anew for every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np


class Strengths(Protocol):
    """How strong, as ``config.data`` says: ``shift`` in pixels, the others as shares."""

    shift: int
    contrast: float
    brightness: float


_LEVELS = np.arange(256, dtype=np.float32)


def augment_view(images: Sequence[np.ndarray], data: Strengths, rng: np.random.Generator) -> list[np.ndarray]:
    """Random shift (edges repeated), contrast and brightness of one view, the same for all of k images [size, size, 3]."""
    y, x, gain, offset = rng.random(4).tolist()
    gain = 1 + data.contrast * (2 * gain - 1)
    offset = 255 * data.brightness * (2 * offset - 1) + 127.5 * (1 - gain)
    levels = np.clip(_LEVELS * gain + offset, 0, 255).astype(np.uint8)
    y, x = (int((2 * data.shift + 1) * at) for at in (y, x))
    return [cv2.LUT(_shifted(image, data.shift, y, x), levels) for image in images]


def _shifted(image: np.ndarray, most: int, y: int, x: int) -> np.ndarray:
    """The picture moved by (most - y, most - x) pixels down and right, its edge repeated."""
    if not most:
        return image
    size = image.shape[0]
    return cv2.copyMakeBorder(image, *(most,) * 4, cv2.BORDER_REPLICATE)[y : y + size, x : x + size]
