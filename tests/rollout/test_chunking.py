"""Receding horizon and ensemble on chunks whose entries are numbers."""

import numpy as np
import pytest

from drifting_vla_jax.rollout.chunking.base import make_chunks
from drifting_vla_jax.rollout.chunking.synchronous import Ensemble, RecedingHorizon
from tests.rollout.asked import executing


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


def level(x: float, h: int = 3) -> np.ndarray:
    """A chunk that says x at every step, without a turn of the wrist."""
    return np.tile(np.array([x, 0, 0, 0, 0, 0, 1, 0], np.float32), (h, 1))


def ensemble(chunks: Ensemble, steps: int) -> tuple[list[float], list[int]]:
    """As ``execute``, with a level chunk of 0, 1, 2, ... per question."""
    actions, asked = [], []
    for step in range(steps):
        if chunks.needs_chunk:
            chunks.add(level(len(asked)))
            asked.append(step)
        actions.append(float(chunks.next()[0]))
    return actions, asked


def test_an_ensemble_averages_all_that_was_predicted_for_a_step():
    """Three actions per chunk, a question per step: at step 2 the chunks 0, 1, 2 speak, at step 3 the chunks 1, 2, 3."""
    assert ensemble(Ensemble(1, decay=0.0), 4) == ([0.0, 0.5, 1.0, 2.0], [0, 1, 2, 3])


def test_in_an_ensemble_the_newest_weighs_most():
    """exp(-m) = 1/2 per step of age: at step 1 (1/2 * 0 + 1) / 1.5, at step 2 (1/4 * 0 + 1/2 * 1 + 2) / 1.75."""
    actions, _ = ensemble(Ensemble(1, decay=np.log(2)), 3)
    np.testing.assert_allclose(actions, [0, 2 / 3, 2.5 / 1.75], rtol=1e-6)


def test_an_ensemble_may_ask_every_other_step():
    """Age counts control steps: where two chunks overlap the old one is two steps older and weighs a quarter."""
    actions, asked = ensemble(Ensemble(2, decay=np.log(2)), 4)
    assert asked == [0, 2]
    np.testing.assert_allclose(actions, [0, 0, 1 / 1.25, 1], rtol=1e-6)


def test_an_ensemble_without_a_chunk_has_no_action():
    chunks = Ensemble(1, 0.1)
    assert chunks.needs_chunk
    with pytest.raises(RuntimeError, match="add a chunk first"):
        chunks.next()


@pytest.mark.parametrize(
    ("options", "execute", "message"),
    [
        ({"execution": "fast"}, 1, "execution is 'fast'; expected receding or ensemble or async"),
        ({"execution": "ensemble", "ensemble_decay": -1}, 1, "ensemble_decay is -1; expected a number, at least 0"),
        ({}, 9, "execute is 9; the policy's chunks have 8 actions"),
        ({"execution": "async", "lead_steps": 3}, 2, "lead_steps is 3, more than the actions executed, execute 2"),
        ({"execution": "async", "lead_steps": 2, "delay_steps": 4}, 4, "used up to action 10: .* chunks have 8"),
    ],
)
def test_execution_that_cannot_be_is_refused(options, execute, message):
    with pytest.raises(ValueError, match=message):
        executing(**options).check(execute, horizon=8)


def test_ways_of_executing_chunks_by_name():
    names = {"receding": "RecedingHorizon", "ensemble": "Ensemble", "async": "Asynchronous"}
    assert {name: type(make_chunks(executing(name), 2)).__name__ for name in names} == names
    settings = executing("ensemble", ensemble_decay=0.5, delay_steps=3).used()
    assert settings == {"execution": "ensemble", "ensemble_decay": 0.5}  # a delay that nothing reads is no difference
