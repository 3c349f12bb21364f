"""Receding horizon on a chunk whose k-th action is the number k."""

import numpy as np
import pytest

from drifting_vla_jax.rollout.chunking import RecedingHorizon


def chunk(first: int, h: int = 4) -> np.ndarray:
    return np.repeat(np.arange(first, first + h, dtype=np.float32)[:, None], 8, axis=1)


def execute(k: int, steps: int) -> tuple[list[float], list[int]]:
    """The actions of ``steps`` control steps, and where a chunk was asked for; that of step t is 10 t, 10 t + 1, ..."""
    chunks, actions, asked = RecedingHorizon(k), [], []
    for step in range(steps):
        if chunks.needs_chunk:
            asked.append(step)
            chunks.add(chunk(10 * step))
        actions.append(float(chunks.next()[0]))
    return actions, asked


def test_the_first_k_actions_of_each_chunk_are_executed():
    assert execute(2, 5) == ([0, 1, 20, 21, 40], [0, 2, 4])
    assert execute(1, 3) == ([0, 10, 20], [0, 1, 2])
    assert execute(4, 5) == ([0, 1, 2, 3, 40], [0, 4])


def test_it_asks_for_nothing_it_does_not_need():
    chunks = RecedingHorizon(2)
    assert chunks.needs_chunk
    with pytest.raises(RuntimeError, match="add a chunk first"):
        chunks.next()
    chunks.add(chunk(0))
    assert not chunks.needs_chunk
    chunks.next()
    chunks.add(chunk(100))
    assert chunks.next()[0] == 100  # a newer chunk replaces the rest of an older one


def test_what_cannot_be_executed_is_refused():
    with pytest.raises(ValueError, match="execute is 0"):
        RecedingHorizon(0)
    with pytest.raises(ValueError, match=r"shape \(4, 8\); expected at least 5"):
        RecedingHorizon(5).add(chunk(0))
    with pytest.raises(ValueError, match=r"shape \(8,\)"):
        RecedingHorizon(5).add(chunk(0)[0])
