"""Asynchronous chunking on chunks that say "step t, as seen at step s": t / 100 + s, a number to read off."""

import threading
import time

import numpy as np
import pytest

from drifting_vla_jax.rollout.chunking.asynchronous import Asynchronous
from drifting_vla_jax.rollout.chunking.realtime import RealTimePolicy

HORIZON = 8


def chunk(asked: int) -> np.ndarray:
    """x: the step an action is for; y: the step it was planned at."""
    actions = np.tile(np.array([0, 0, 0, 0, 0, 0, 1, 0], np.float32), (HORIZON, 1))
    actions[:, 0], actions[:, 1] = asked + np.arange(HORIZON), asked
    return actions


def play(chunks: Asynchronous, steps: int) -> tuple[list[float], list[float], list[int]]:
    """In a simulator: the step each action is for, the step it was planned at, and the steps of the questions."""
    x, y, asked = [], [], []
    for step in range(steps):
        if chunks.needs_chunk:
            asked.append(step)
            chunks.add(chunk(step))
        action = chunks.next()
        x.append(float(action[0]))
        y.append(float(action[1]))
    return x, y, asked


def test_a_delay_within_the_lead_costs_no_step():
    """Asked 2 steps before its turn, 2 steps late: every action is the one for its step, 4 of each chunk."""
    x, y, asked = play(Asynchronous(execute=4, lead=2, blend=0, delay=2), 12)
    assert x == list(range(12))  # what fell into the delay is skipped, nothing is said twice
    assert asked == [0, 2, 6, 10]
    assert y == [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6]


def test_with_less_lead_the_old_chunk_goes_on():
    x, y, asked = play(Asynchronous(execute=3, lead=1, blend=0, delay=3), 12)
    assert x == list(range(12)) and asked == [0, 2, 7]
    assert y == [0] * 5 + [2] * 5 + [7] * 2


def test_at_the_end_of_a_plan_the_last_target_is_held():
    x, _, asked = play(Asynchronous(execute=8, lead=0, blend=0, delay=3), 13)
    assert x == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 11, 12] and asked == [0, 8]


def test_without_delay_it_is_receding_horizon():
    x, y, asked = play(Asynchronous(execute=3, lead=0, blend=0, delay=0), 7)
    assert x == list(range(7)) and asked == [0, 3, 6] and y == [0, 0, 0, 3, 3, 3, 6]


def test_the_seam_is_blended_linearly():
    """The new chunk, planned at step 2, takes over at step 4: it weighs 1/3, 2/3, then all."""
    x, y, _ = play(Asynchronous(execute=4, lead=2, blend=2, delay=2), 7)
    assert x == list(range(7))
    np.testing.assert_allclose(y, [0, 0, 0, 0, 2 / 3, 4 / 3, 2])


def test_rotations_are_blended_on_the_sphere():
    """From no turn to a quarter turn about z, given as its negative: half way is an eighth."""
    old, new, chunks = chunk(0), chunk(0), Asynchronous(execute=1, lead=0, blend=1)
    new[:, 3:7] = [0, 0, -np.sqrt(0.5), -np.sqrt(0.5)]
    chunks.add(old)
    chunks.next()
    chunks.add(new)
    np.testing.assert_allclose(chunks.next()[3:7], [0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)], atol=1e-6)


def test_the_delay_that_time_itself_makes():
    chunks = Asynchronous(execute=4, lead=2, blend=0)
    with pytest.raises(RuntimeError, match="add a chunk first"):
        chunks.next()
    with pytest.raises(RuntimeError, match="nobody asked"):
        chunks.arrived(chunk(0))
    chunks.asked()
    assert chunks.arrived(chunk(0)) == 0 and not chunks.needs_chunk
    assert [float(chunks.next()[0]) for _ in range(2)] == [0, 1] and chunks.needs_chunk
    chunks.asked()
    assert [float(chunks.next()[0]) for _ in range(3)] == [2, 3, 4] and not chunks.needs_chunk
    assert chunks.arrived(chunk(2)) == 3
    assert chunks.next()[:2].tolist() == [5, 2]
    chunks.next()
    chunks.asked()
    for _ in range(20):
        held = chunks.next()
    assert held[0] == 9 and chunks.arrived(chunk(7)) == 20  # planned at 2 up to 9; the new one ends at 14
    assert chunks.next()[0] == 14
    with pytest.raises(ValueError, match="lead is 3; expected at most the 2 actions"):
        Asynchronous(execute=2, lead=3, blend=0)


class SlowClient:
    """Answers when it is let, with the chunk of the step that the observation names; notes whose thread it is in."""

    def __init__(self):
        self.threads, self.let, self.closed = {threading.get_ident()}, threading.Semaphore(0), False

    def infer(self, observation):
        self.threads.add(threading.get_ident())
        if not self.let.acquire(timeout=10):
            raise TimeoutError
        if observation["state"] == "lost":
            raise ConnectionError("gone")
        return {"actions": chunk(observation["state"])}

    def close(self):
        self.threads.add(threading.get_ident())
        self.closed = True


def test_a_robot_goes_on_acting_while_the_policy_thinks():
    clients = []
    policy = RealTimePolicy(lambda: clients.append(SlowClient()) or clients[0], Asynchronous(4, lead=2, blend=0))
    with policy:
        (client,) = clients
        client.let.release()
        seen = [policy.act({"state": step})[:2].tolist() for step in range(5)]  # asked at 2, unanswered
        assert seen == [[step, 0] for step in range(5)]
        client.let.release()
        deadline = time.monotonic() + 10
        while not policy._answer.done() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert policy.act({"state": 5})[:2].tolist() == [5, 2]
        assert policy.delays == [0, 3]
        policy.act({"state": 6})
        client.let.release()
        policy.act({"state": "lost"})
        while not policy._answer.done() and time.monotonic() < deadline:
            time.sleep(0.001)
        with pytest.raises(ConnectionError, match="gone"):
            policy.act({"state": 8})
    assert client.closed and len(client.threads) == 1 and threading.get_ident() not in client.threads


def test_a_server_that_is_not_there_is_known_at_once():
    def connect():
        raise ConnectionError("nobody answers")

    with pytest.raises(ConnectionError, match="nobody answers"):
        RealTimePolicy(connect, Asynchronous(2, lead=1, blend=0))
