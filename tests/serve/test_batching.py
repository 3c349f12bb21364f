"""When a batch starts: full, complete or due; never while another runs."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from drifting_vla_jax.serve.batching import Batcher, BusyError, InferenceError


class Echo:
    """Answers each observation's own number; waits at the gate, and records the batches it was given."""

    def __init__(self):
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, observations):
        self.batches.append([o["n"] for o in observations])
        assert self.gate.wait(5)
        if any(o["n"] < 0 for o in observations):
            raise FloatingPointError("negative")
        return np.stack([np.full((2, 8), o["n"], np.float32) for o in observations])


def run(scenario, *, max_batch=4, deadline_s=0.02, clients=1, **more):
    """Runs ``scenario(batcher, echo)`` on an event loop of its own."""

    async def main():
        with ThreadPoolExecutor(1) as executor:
            echo = Echo()
            options = {"max_waiting": 100, "executor": executor, **more}
            batcher = Batcher(echo, max_batch=max_batch, deadline_s=deadline_s, **options)
            for _ in range(clients):
                batcher.join()
            try:
                return await asyncio.wait_for(scenario(batcher, echo), 10)
            finally:
                echo.gate.set()

    return asyncio.run(main())


async def ask(batcher, *numbers):
    return await asyncio.gather(*(batcher.submit({"n": n}) for n in numbers))


def test_one_client_alone_does_not_wait_for_the_deadline():
    async def scenario(batcher, echo):
        return (await ask(batcher, 7))[0]

    result = run(scenario, deadline_s=5)
    assert result.queue_ms < 1000
    np.testing.assert_array_equal(result.actions, np.full((2, 8), 7))


def test_all_clients_waiting_is_a_complete_batch():
    async def scenario(batcher, echo):
        results = await ask(batcher, 1, 2, 3)
        return echo.batches, [r.actions[0, 0] for r in results]

    batches, answers = run(scenario, deadline_s=5, clients=3)
    assert batches == [[1, 2, 3]] and answers == [1, 2, 3]


def test_a_batch_is_never_larger_than_the_largest_size():
    async def scenario(batcher, echo):
        results = await ask(batcher, *range(10))
        return echo.batches, [r.actions[0, 0] for r in results]

    batches, answers = run(scenario, clients=10, max_batch=4)
    assert [len(b) for b in batches] == [4, 4, 2] and answers == list(range(10))


def test_the_deadline_sends_an_incomplete_batch():
    async def scenario(batcher, echo):
        results = await ask(batcher, 1, 2)
        return echo.batches, results

    batches, results = run(scenario, clients=3, deadline_s=0.05)
    assert batches == [[1, 2]]
    assert all(40 < r.queue_ms < 1000 for r in results)


def test_what_arrives_during_an_inference_is_the_next_batch():
    async def scenario(batcher, echo):
        echo.gate.clear()
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.sleep(0.03)
        second = asyncio.create_task(ask(batcher, 2))
        await asyncio.sleep(0.03)  # far beyond the deadline
        third = asyncio.create_task(ask(batcher, 3))
        await asyncio.sleep(0.01)
        running = list(echo.batches)
        echo.gate.set()
        await asyncio.gather(first, third)
        return running, echo.batches, (await second)[0]

    running, batches, second = run(scenario, clients=3, deadline_s=0.001)
    assert running == [[1]] and batches == [[1], [2, 3]]
    assert second.queue_ms > 20  # it says that it waited for the inference before it


def test_a_client_that_leaves_is_not_waited_for():
    async def scenario(batcher, echo):
        waiting = asyncio.create_task(ask(batcher, 1))
        await asyncio.sleep(0.01)
        assert not echo.batches
        batcher.leave()
        return await waiting

    assert run(scenario, clients=2, deadline_s=60)[0].queue_ms < 5000


def test_a_failing_batch_is_answered_and_the_next_one_runs():
    async def scenario(batcher, echo):
        with pytest.raises(InferenceError, match="FloatingPointError: negative"):
            await batcher.submit({"n": -1})
        result = await batcher.submit({"n": 4})
        return batcher.failures, result.actions[0, 0]

    answered = []
    assert run(scenario, on_batch=answered.append) == (1, 4)
    assert answered == [1]


def test_a_full_queue_says_so_at_once_and_empties():
    async def scenario(batcher, echo):
        echo.gate.clear()
        taken = asyncio.create_task(ask(batcher, 1))
        await asyncio.sleep(0.03)  # the network is at work on it
        waiting = asyncio.create_task(ask(batcher, 2, 3))
        await asyncio.sleep(0.01)
        assert batcher.waiting == 2
        with pytest.raises(BusyError, match="2 requests wait already; ask again later"):
            await batcher.submit({"n": 4})
        echo.gate.set()
        await asyncio.gather(taken, waiting)
        return (await batcher.submit({"n": 5})).actions[0, 0]

    assert run(scenario, max_waiting=2, clients=4, deadline_s=0.001) == 5


def test_an_answer_of_another_size_is_a_failure():
    async def scenario(batcher, echo):
        batcher._infer = lambda observations: np.zeros((len(observations) + 1, 2, 8))
        with pytest.raises(InferenceError, match=r"answered \[2, 2, 8\] to 1 observations"):
            await batcher.submit({"n": 1})

    run(scenario)
