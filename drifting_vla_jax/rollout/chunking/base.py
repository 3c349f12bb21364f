"""The ways of executing chunks, by name and with their parameters: ``synchronous.py``, ``asynchronous.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np

from drifting_vla_jax.core.ranges import CONTROL_STEPS, DECAY_RATE, Choice, Flag, said
from drifting_vla_jax.core.settings import Option, require, rows
from drifting_vla_jax.rollout.chunking.asynchronous import Asynchronous
from drifting_vla_jax.rollout.chunking.synchronous import Ensemble, RecedingHorizon

_USED = {  # by each way of executing chunks, besides ``execute``
    "receding": (),
    "ensemble": ("ensemble_decay",),
    "async": ("lead_steps", "delay_steps", "blend_steps", "hold_last"),
}
EXECUTIONS = tuple(_USED)


@dataclass(frozen=True)
class Execution:
    """How chunks are executed; the first fields of ``settings.RolloutSettings``.

    Attributes:
      execution: one of ``EXECUTIONS``.
      ensemble_decay: m of ensemble, per control step.
      lead_steps: async asks this many control steps before ``execute`` actions are done.
      delay_steps: control steps that an answer takes in async.
      blend_steps: control steps over which async goes from the old chunk to the new one.
      hold_last: async holds the last target where an answer comes after the plan has ended; else that is refused.
    """

    execution: Annotated[
        str, Choice(EXECUTIONS), Option("receding", "How chunks are executed: rollout/chunking/base.py.")
    ]
    ensemble_decay: Annotated[float, DECAY_RATE, Option(0.1, "ensemble: m; a prediction n steps old weighs exp(-m n).")]
    lead_steps: Annotated[int, CONTROL_STEPS, Option(1, "async: asks so many steps before --execute actions are done.")]
    delay_steps: Annotated[int, CONTROL_STEPS, Option(1, "async: control steps that an answer takes.")]
    blend_steps: Annotated[int, CONTROL_STEPS, Option(1, "async: control steps from the old chunk to the new one.")]
    hold_last: Annotated[bool, Flag(), Option(False, "async: where an answer comes too late, hold the last target.")]

    def __post_init__(self):
        for name, row in rows(type(self)).items():
            wrong = said(name, getattr(self, name), row)
            require(wrong is None, wrong or "")

    def used(self) -> dict[str, Any]:
        """The way and those parameters that it reads: what tells two evaluations apart."""
        return {name: getattr(self, name) for name in ("execution", *_USED[self.execution])}

    def check(self, execute: int, horizon: int) -> None:
        """Raises ValueError, one line, if chunks of ``horizon`` actions cannot be executed like this."""
        if execute > horizon:
            raise ValueError(f"execute is {execute}; the policy's chunks have {horizon} actions")
        if self.execution != "async":
            return
        if self.lead_steps > execute:
            raise ValueError(f"lead_steps is {self.lead_steps}, more than the actions executed, execute {execute}")
        needed = 2 * self.delay_steps + execute - self.lead_steps
        if needed > horizon and not self.hold_last:
            raise ValueError(
                f"with execute {execute}, lead_steps {self.lead_steps} and delay_steps {self.delay_steps} a chunk is used "
                f"up to action {needed}: {self.delay_steps} pass before it comes and {self.delay_steps} until the next "
                f"does; the policy's chunks have {horizon}. hold_last lets the last target be held meanwhile"
            )


RECEDING = Execution("receding", 0.0, 0, 0, 0, False)


class ChunkScheduler(Protocol):
    """What decides on the action of each control step."""

    @property
    def needs_chunk(self) -> bool:
        """Whether the policy is to be asked with the observation of this step."""
        ...

    def add(self, chunk: np.ndarray) -> None:
        """Takes the chunk [h, 8] for the observation of this step."""
        ...

    def next(self) -> np.ndarray:
        """The action [8] of this step; the next call is about the step after it."""
        ...


def make_chunks(execution: Execution, execute: int) -> ChunkScheduler:
    """For one episode."""
    if execution.execution == "receding":
        return RecedingHorizon(execute)
    if execution.execution == "ensemble":
        return Ensemble(execute, execution.ensemble_decay)
    return Asynchronous(execute, execution.lead_steps, execution.blend_steps, execution.delay_steps)
