"""What a policy that looks back is shown: the present images and some earlier ones, oldest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np


class FrameHistory:
    """The images of the last control steps of one episode.

    Before the episode's start there are none: its first images stand in for them, as in training.
    """

    def __init__(self, history: int, stride: int):
        """``history``: earlier time steps shown, 0 for none; ``stride``: control steps between them."""
        self._history, self._stride = history, stride
        self._seen: deque[Mapping[str, np.ndarray]] = deque(maxlen=history * stride + 1)

    @property
    def needs_every_step(self) -> bool:
        """Whether images are wanted of steps at which the policy is not asked."""
        return self._history > 0

    def see(self, images: Mapping[str, np.ndarray]) -> None:
        """Takes the images uint8 [size, size, 3] of one control step."""
        self._seen.append(images)

    def shown(self) -> dict[str, np.ndarray]:
        """What goes over the wire now: uint8 [size, size, 3] per camera, or [history + 1, size, size, 3]."""
        if not self._history:
            return dict(self._seen[-1])
        last = len(self._seen) - 1
        steps = [max(last - k * self._stride, 0) for k in range(self._history, -1, -1)]
        return {camera: np.stack([self._seen[step][camera] for step in steps]) for camera in self._seen[-1]}
