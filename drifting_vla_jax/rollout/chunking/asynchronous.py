"""Asynchronous chunking: the robot goes on acting while the policy thinks.

A question is asked ``execute - lead`` control steps after the last chunk took over. Its answer comes d control steps later:
the first d actions of the new chunk are for steps that have passed and are skipped, the rest takes over from that step on,
blended with what was planned there over a few steps: at the j-th of n the new chunk weighs j / (n + 1), rotations on
the sphere (``averaging.py``). With lead >= d no step is lost; with less the old chunk's later actions go on, and where
there are none left the last target is held. Only for its first chunk a robot stands and waits.

          asked      arrives
    old   0 1 2 3 4 5 6 7
    new         0 1 2 3 4 5 6 7      d = 3: 0 1 2 are skipped, 3 is blended with the old 6, 4 with the old 7 ...

What d is. On a robot time goes by itself, and d is measured: ``asked``, ``arrived`` (``realtime.py``). A simulator moves
only when it is told to, so a question costs it no time, however long it takes; to wait for the answer and count the wall's
seconds would make the result of an evaluation depend on the machine's load. There d is given beforehand, in control steps,
and the answer, though it is here already, is kept back until then: ``add``. The policy has seen exactly what it would
have seen, nothing depends on clocks, and the measured round trips of the same episodes say which d would be true.
"""

from __future__ import annotations

import numpy as np

from drifting_vla_jax.rollout.chunking.averaging import average_actions
from drifting_vla_jax.rollout.chunking.synchronous import check_chunk, check_execute


class Asynchronous:
    """See the module. In a simulator ``add``; on a robot ``asked``, and ``arrived`` when the answer is there."""

    def __init__(self, execute: int, lead: int, blend: int, delay: int = 0):
        """Args:
        execute: actions executed of each chunk if its successor comes ``lead`` steps after its question.
        lead: control steps before that at which the question is asked.
        blend: control steps over which a new chunk takes over.
        delay: control steps until an added chunk is used.
        """
        if lead > check_execute(execute):
            raise ValueError(f"lead is {lead}; expected at most the {execute} actions executed")
        self._after, self._blend, self._delay = execute - lead, blend, delay
        self._plan = np.empty((0, 8), np.float32)  # actions from this step on
        self._held: np.ndarray | None = None  # the last target, once there was one
        self._used = 0  # control steps since the last chunk took over
        self._waited: int | None = None  # control steps since the question that is under way
        self._kept_back: np.ndarray | None = None  # its answer, not used yet

    @property
    def started(self) -> bool:
        """Whether there is something to execute."""
        return self._held is not None

    @property
    def needs_chunk(self) -> bool:
        return self._waited is None and (not self.started or self._used >= self._after)

    def add(self, chunk: np.ndarray) -> None:
        """Takes the answer to this step's question, to be used ``delay`` steps from now (the first one at once)."""
        check_chunk(chunk, 1)
        self.asked()
        self._kept_back = chunk
        self._release()

    def asked(self) -> None:
        """A question is under way from this step on."""
        self._waited = 0

    def arrived(self, chunk: np.ndarray) -> int:
        """The answer is there: it takes over from this step on. Returns its delay in control steps."""
        if self._waited is None:
            raise RuntimeError("a chunk arrived for which nobody asked")
        check_chunk(chunk, 1)
        delay, self._waited, self._kept_back = self._waited, None, None
        plan = np.array(chunk[min(delay, len(chunk) - 1) :], np.float32)  # of one that is too late its last target
        for j in range(min(self._blend, len(plan)) if self.started else 0):
            old = self._plan[j] if j < len(self._plan) else self._last_planned()
            weight = (j + 1) / (self._blend + 1)
            plan[j] = average_actions(np.stack([old, plan[j]]), (1 - weight, weight))
        self._plan, self._used = plan, 0
        self._held = plan[0] if self._held is None else self._held
        return delay

    def next(self) -> np.ndarray:
        """The action [8] of this step; the last target again where the plan has ended."""
        if not self.started:
            raise RuntimeError("no action yet: add a chunk first")
        if len(self._plan):
            self._held, self._plan = self._plan[0], self._plan[1:]
        self._used += 1
        if self._waited is not None:
            self._waited += 1
            self._release()
        return self._held

    def _release(self) -> None:
        """Uses what was kept back, if its time has come."""
        if self._kept_back is not None and (not self.started or self._waited >= self._delay):
            self.arrived(self._kept_back)

    def _last_planned(self) -> np.ndarray:
        return self._plan[-1] if len(self._plan) else self._held
