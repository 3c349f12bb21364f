"""Which action is executed now, given chunks that were asked for at different moments.

A chunk [h, 8] holds targets for the h control steps after its observation: entry k is the target k + 1 steps ahead.

    receding  executes the first k of them and asks again: k = h asks least and is blind for h steps, k = 1 reacts most
    ensemble  asks every k steps and executes the average of all predictions for this step (Zhao et al., arXiv 2304.13705,
              but the newest weighs most): a prediction made n control steps ago weighs exp(-m n)

Both, and what asks while it acts (``asynchronous.py``), are used alike. ``needs_chunk`` also tells whether the coming
observation has to be rendered:

    while running:
        if chunks.needs_chunk:
            chunks.add(policy(observation))
        action = chunks.next()
"""

from __future__ import annotations

import numpy as np

from drifting_vla_jax.rollout.chunking.averaging import average_actions


def check_chunk(chunk: np.ndarray, execute: int) -> None:
    """Raises ValueError if this is no chunk of at least ``execute`` actions."""
    if chunk.ndim != 2 or len(chunk) < execute:
        raise ValueError(f"a chunk has shape {chunk.shape}; expected at least {execute} actions to execute")


def check_execute(execute: int) -> int:
    """``execute``, if it can be meant."""
    if execute < 1:
        raise ValueError(f"execute is {execute}; expected at least 1 action of each chunk")
    return execute


class RecedingHorizon:
    """Executes the first ``execute`` actions of every chunk; what is left of a chunk when the next comes is dropped."""

    def __init__(self, execute: int):
        self._execute = check_execute(execute)
        self._chunk = np.empty((0, 0))
        self._position = 0

    @property
    def needs_chunk(self) -> bool:
        return self._position >= len(self._chunk)

    def add(self, chunk: np.ndarray) -> None:
        check_chunk(chunk, self._execute)
        self._chunk = chunk[: self._execute]
        self._position = 0

    def next(self) -> np.ndarray:
        if self.needs_chunk:
            raise RuntimeError("no action left: add a chunk first")
        action = self._chunk[self._position]
        self._position += 1
        return action


class Ensemble:
    """Asks every ``execute`` steps; averages all that was predicted for a step, weighed exp(-decay * age)."""

    def __init__(self, execute: int, decay: float):
        self._execute, self._decay = check_execute(execute), decay
        self._chunks: list[tuple[int, np.ndarray]] = []  # (step of its question, chunk), oldest first
        self._step = 0

    @property
    def needs_chunk(self) -> bool:
        return not self._chunks or self._step - self._chunks[-1][0] >= self._execute

    def add(self, chunk: np.ndarray) -> None:
        check_chunk(chunk, self._execute)
        self._chunks.append((self._step, chunk))

    def next(self) -> np.ndarray:
        self._chunks = [(asked, chunk) for asked, chunk in self._chunks if self._step - asked < len(chunk)]
        if self.needs_chunk:
            raise RuntimeError("no action left: add a chunk first")
        ages = np.array([self._step - asked for asked, _ in self._chunks])
        predicted = np.stack([chunk[age] for age, (_, chunk) in zip(ages, self._chunks)])
        self._step += 1
        return average_actions(predicted, np.exp(-self._decay * (ages - ages[-1])))
