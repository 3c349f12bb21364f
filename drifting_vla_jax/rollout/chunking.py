"""Which action of which chunk is executed now.

A chunk [h, 8] holds targets for the h control steps after its observation: entry k is the target k + 1 steps ahead.
Receding horizon executes the first k of them and asks again:

    k = h   fewest questions, blind for h steps
    k = 1   a question per step, most reactive
"""

from __future__ import annotations

import numpy as np


class RecedingHorizon:
    """Executes the first ``execute`` actions of every chunk.

        while running:
            if chunks.needs_chunk:
                chunks.add(policy(observation))
            action = chunks.next()

    ``needs_chunk`` is also what tells whether the coming observation has to be rendered.
    """

    def __init__(self, execute: int):
        """``execute``: actions executed of each chunk, at least 1."""
        if execute < 1:
            raise ValueError(f"execute is {execute}; expected at least 1 action of each chunk")
        self._execute = execute
        self._chunk = np.empty((0, 0))
        self._position = 0

    @property
    def needs_chunk(self) -> bool:
        """Whether the next action has to come from a new observation."""
        return self._position >= len(self._chunk)

    def add(self, chunk: np.ndarray) -> None:
        """Takes a new chunk [h, 8] for the observation of this step; what is left of the last one is dropped."""
        if chunk.ndim != 2 or len(chunk) < self._execute:
            raise ValueError(f"a chunk has shape {chunk.shape}; expected at least {self._execute} actions to execute")
        self._chunk = chunk[: self._execute]
        self._position = 0

    def next(self) -> np.ndarray:
        """The action [8] of this control step."""
        if self.needs_chunk:
            raise RuntimeError("no action left: add a chunk first")
        action = self._chunk[self._position]
        self._position += 1
        return action
