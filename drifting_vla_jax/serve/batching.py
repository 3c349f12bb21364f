"""Requests of many connections become one batch; one thread computes it, and the event loop never waits for it.

A batch starts when the inference thread is free and one of these holds:

    full      as many requests wait as the largest batch holds
    complete  every open connection has a request waiting: nobody else can come, so waiting would be for nothing
    due       the oldest request has waited ``deadline_s``

One client alone is therefore answered at once, and requests that arrive during an inference form the next batch. Where a
batch fails, its requests are computed again one by one: an error is told only to who caused it.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from drifting_vla_jax.wire.protocol import UnsoundActionsError

logger = logging.getLogger(__name__)


class InferenceError(RuntimeError):
    """The policy failed on an observation that it had accepted."""


class BusyError(RuntimeError):
    """As many requests wait as may."""


@dataclass(frozen=True)
class Result:
    """One request's share of a batch: actions float32 [h, k], and its wall-clock milliseconds waiting and computing."""

    actions: np.ndarray
    queue_ms: float
    infer_ms: float


@dataclass(frozen=True)
class _Request:
    observation: dict
    arrived: float  # loop time, seconds
    answer: asyncio.Future


class Batcher:
    """Gathers requests and hands them to the inference thread. Lives on one event loop.

    Attributes:
      clients: open connections.
      failures: requests on which the policy failed.
    """

    def __init__(
        self,
        infer: Callable[[Sequence[dict]], np.ndarray],
        *,
        max_batch: int,
        deadline_s: float,
        max_waiting: int,
        executor: Executor,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        """Args:
        infer: observations (at most ``max_batch``) -> actions [n, h, k]; blocks until the result is ready.
        max_batch: the largest batch.
        deadline_s: seconds a request waits at most for others while the inference thread is free.
        max_waiting: requests that may wait; one more is turned away at once.
        executor: where ``infer`` runs; one thread.
        on_batch: told of every batch how many requests it answered, if any.
        """
        self._infer = infer
        self._max_batch = max_batch
        self._deadline_s = deadline_s
        self._max_waiting = max_waiting
        self._executor = executor
        self._on_batch = on_batch
        self._waiting: collections.deque[_Request] = collections.deque()
        self._running: asyncio.Task | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.clients = 0
        self.failures = 0

    @property
    def waiting(self) -> int:
        """Requests that no batch has taken yet."""
        return len(self._waiting)

    def join(self) -> None:
        """A connection opened."""
        self.clients += 1

    def leave(self) -> None:
        """A connection closed: those that remain may now be complete."""
        self.clients -= 1
        self._consider()

    async def submit(self, observation: dict) -> Result:
        """Waits for a place in a batch and for its result.

        Raises:
          BusyError: the queue is full.
          InferenceError: the policy failed; the message names its error.
        """
        if len(self._waiting) >= self._max_waiting:
            raise BusyError(f"{len(self._waiting)} requests wait already; ask again later")
        loop = asyncio.get_running_loop()
        request = _Request(observation, loop.time(), loop.create_future())
        self._waiting.append(request)
        self._consider()
        return await request.answer

    def _consider(self) -> None:
        """Starts a batch if it is time, else makes sure that someone asks again when it is."""
        if self._running or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        due = self._waiting[0].arrived + self._deadline_s
        if len(self._waiting) >= min(self._max_batch, self.clients) or loop.time() >= due:
            self._start()
        elif self._timer is None:
            self._timer = loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._consider()

    def _start(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
        self._running = asyncio.create_task(self._run(batch))

    async def _run(self, batch: list[_Request]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers, started, infer_ms = await loop.run_in_executor(self._executor, self._timed, batch)
            good = [answer for answer in answers if not isinstance(answer, InferenceError)]
            self.failures += len(answers) - len(good)
            if good:
                self._on_batch(len(good))
            for request, answer in zip(batch, answers):
                if request.answer.done():  # cancelled when its connection went away
                    continue
                if isinstance(answer, InferenceError):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(Result(answer, 1000 * (started - request.arrived), infer_ms))
        finally:
            self._running = None
            self._consider()

    def _timed(self, batch: list[_Request]) -> tuple[list[np.ndarray | InferenceError], float, float]:
        """In the inference thread: (actions [h, k] or the error of each, when it started, milliseconds it took)."""
        started = time.monotonic()  # the event loop's own clock
        answers = self._answers([request.observation for request in batch])
        return answers, started, 1000 * (time.monotonic() - started)

    def _answers(self, observations: list[dict]) -> list[np.ndarray | InferenceError]:
        """Of each observation its actions [h, k], or why there are none."""
        try:
            actions = np.asarray(self._infer(observations), np.float32)
            if actions.ndim != 3 or len(actions) != len(observations):
                raise RuntimeError(f"the policy answered {list(actions.shape)} to {len(observations)} observations")
            if not np.isfinite(actions).all():
                raise UnsoundActionsError("the policy's actions are not finite")
        except Exception as error:  # the policy is another party: whatever it raises is logged, counted and answered
            foreseen = isinstance(error, UnsoundActionsError)
            said = str(error) if foreseen else f"{type(error).__name__}: {error}"
            logger.error("inference failed on a batch of %d: %s", len(observations), said, exc_info=not foreseen)
            if len(observations) > 1:
                return [answer for one in observations for answer in self._answers([one])]
            return [InferenceError(said)]
        return list(actions)
