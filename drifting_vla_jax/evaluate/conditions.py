"""What a policy is asked besides its ordinary evaluation: the table of ``evaluate.suite`` and of the results page.

Every condition is an ordinary evaluation of the checkpoint's own configuration with a few keys changed. All share the
episodes' seeds, so any two of them are compared start by start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drifting_vla_jax.envs.info import EnvInfo

SAMPLING_STEPS = (1, 2)  # evaluated besides its own, where an objective's number of steps can be chosen
LATE = {"eval.execution": "async", "eval.hold_last": True}  # the simulator goes on while the policy thinks


@dataclass(frozen=True)
class Condition:
    """One of them.

    Attributes:
      name: on the command line, on the page, in WORKDIR/eval/suite-step<N>.json.
      about: what it changes, for a reader.
      changes: keys of the configuration.
      options: settings of the simulator of which this is a perturbation.
      group: the table of the page that it belongs to.
      whole: with all the episodes that are asked for; else with the fewer.
      stepwise: also with ``SAMPLING_STEPS``.
      ms_each: milliseconds that one network evaluation is said to take; 0: ``changes`` say what there is to say.
    """

    name: str
    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    group: str = "plain"
    whole: bool = False
    stepwise: bool = False
    ms_each: float = 0.0

    def overrides(self, evaluations_per_chunk: int) -> dict[str, Any]:
        """The keys to change for a policy of that many network evaluations."""
        given = {"eval.latency_ms": self.ms_each * evaluations_per_chunk} if self.ms_each else {}
        return {**self.changes, **given}


PLAIN = "plain"
GENERAL = (
    Condition(PLAIN, "the simulator waits, goals that no demonstration had", whole=True, stepwise=True),
    Condition("execute1", "asked after every action", {"eval.execute": 1}, group="interval"),
    Condition("execute2", "asked after two actions", {"eval.execute": 2}, group="interval"),
    Condition("execute4", "asked after four actions", {"eval.execute": 4}, group="interval"),
    Condition("late-50ms", "every answer takes 50 ms", {**LATE, "eval.latency_ms": 50.0}, group="late"),
    Condition("late-200ms", "every answer takes 200 ms", {**LATE, "eval.latency_ms": 200.0}, group="late"),
    Condition("late-each", "every network evaluation takes 20 ms", LATE, group="late", stepwise=True, ms_each=20.0),
    Condition(
        "late-measured",
        "an answer takes as long as on this machine",
        {**LATE, "eval.latency_ms": -1.0},
        group="late",
        stepwise=True,
    ),
)


def of_environment(info: EnvInfo) -> tuple[Condition, ...]:
    """The conditions of a simulator: its own perturbations behind the plain one, then those of every simulator."""
    own = [Condition(name, p.about, {}, p.options, "changed") for name, p in info.perturbations.items()]
    return GENERAL[0], *own, *GENERAL[1:]
