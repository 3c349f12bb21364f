"""What a policy is asked besides its ordinary evaluation: the one table of ``evaluate.suite`` and of the results page.

Every condition is an ordinary evaluation of the checkpoint's own configuration with a few keys changed. All share the
episodes' seeds, so any two of them are compared start by start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FLOW_STEPS = (1, 2)  # Euler steps that a flow-matching policy is evaluated with, besides those of its configuration
LATE = {"eval.execution": "async", "eval.hold_last": True}  # the simulator goes on while the policy thinks


@dataclass(frozen=True)
class Condition:
    """One of them.

    Attributes:
      name: on the command line, on the page, in WORKDIR/eval/suite-step<N>.json.
      about: what it changes, for a reader.
      changes: keys of the configuration.
      group: the table of the page that it belongs to.
      whole: with all the episodes that are asked for; else with the fewer.
      stepwise: of flow matching also with ``FLOW_STEPS``.
      ms_each: milliseconds that one network evaluation is said to take; 0: ``changes`` say what there is to say.
    """

    name: str
    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    group: str = "plain"
    whole: bool = False
    stepwise: bool = False
    ms_each: float = 0.0

    def overrides(self, evaluations_per_chunk: int) -> dict[str, Any]:
        """The keys to change for a policy of that many network evaluations."""
        given = {"eval.latency_ms": self.ms_each * evaluations_per_chunk} if self.ms_each else {}
        return {**self.changes, **given}


PLAIN = "plain"
CONDITIONS = (
    Condition(PLAIN, "the simulator waits, goals that no demonstration had", whole=True, stepwise=True),
    Condition("words", "the same, the task in words never heard", {"env.metaworld.change": "words"}, "changed"),
    Condition("camera", "the same, cameras a little elsewhere", {"env.metaworld.change": "camera"}, "changed"),
    Condition("light", "the same, other light", {"env.metaworld.change": "light"}, "changed"),
    Condition(
        "colour", "the same, another colour of table, walls and floor", {"env.metaworld.change": "colour"}, "changed"
    ),
    Condition("execute1", "asked after every action", {"eval.execute": 1}, "interval"),
    Condition("execute2", "asked after two actions", {"eval.execute": 2}, "interval"),
    Condition("execute4", "asked after four actions", {"eval.execute": 4}, "interval"),
    Condition("late-50ms", "every answer takes 50 ms", {**LATE, "eval.latency_ms": 50.0}, "late"),
    Condition("late-200ms", "every answer takes 200 ms", {**LATE, "eval.latency_ms": 200.0}, "late"),
    Condition("late-each", "every network evaluation takes 20 ms", LATE, "late", stepwise=True, ms_each=20.0),
    Condition(
        "late-measured",
        "an answer takes as long as on this machine",
        {**LATE, "eval.latency_ms": -1.0},
        "late",
        stepwise=True,
    ),
)
BY_NAME = {condition.name: condition for condition in CONDITIONS}
