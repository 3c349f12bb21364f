"""A policy for a robot whose time does not stand still: an action at every control step, questions in the background.

    chunks = Asynchronous(execute=8, lead=3, blend=2)
    with RealTimePolicy(lambda: PolicyClient("ws://127.0.0.1:8000"), chunks) as policy:
        while True:                                     # at the control rate
            robot.move(policy.act({"images": ..., "state": ..., "prompt": ...}))
        policy.delays                                   # control steps that each answer took

The client is made, used and closed by one thread of its own: a websocket is not for two.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from drifting_vla_jax.rollout.chunking.asynchronous import Asynchronous


class Client(Protocol):
    """The part of PolicyClient that is needed here."""

    def infer(self, observation: dict) -> dict: ...

    def close(self) -> None: ...


class RealTimePolicy:
    """See the module.

    Attributes:
      delays: measured, in control steps, one per answer; 0 for the first, for which the robot waits.
    """

    def __init__(self, connect: Callable[[], Client], chunks: Asynchronous):
        """Connects; raises what ``connect`` raises.

        Args:
          connect: makes the client, in the thread that will own it.
          chunks: for this episode.
        """
        self._chunks, self.delays = chunks, []
        self._answer: Future[dict] | None = None
        self._thread = ThreadPoolExecutor(1, "policy-client")
        try:
            self._client = self._thread.submit(connect).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def act(self, observation: dict) -> np.ndarray:
        """The action [8] of this control step; does not wait for the policy, but at the very start.

        ``observation`` is in the wire's format; it is sent if it is time to ask.

        Raises:
          What ``client.infer`` raised about an earlier question, e.g. ConnectionError.
        """
        if self._answer is not None and self._answer.done():
            self._take()
        if self._chunks.needs_chunk:
            self._chunks.asked()
            self._answer = self._thread.submit(self._client.infer, observation)
            if not self._chunks.started:
                self._take()
        return self._chunks.next()

    def _take(self) -> None:
        answer, self._answer = self._answer, None
        self.delays.append(self._chunks.arrived(answer.result()["actions"]))

    def close(self) -> None:
        """Waits for the question under way, then closes the client."""
        self._thread.submit(self._client.close).result()
        self._thread.shutdown()

    def __enter__(self) -> RealTimePolicy:
        return self

    def __exit__(self, *_) -> None:
        self.close()
