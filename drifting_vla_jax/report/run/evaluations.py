"""Evaluations as tables: success with intervals, how episodes ended, the policy's latency, two policies on the same starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from drifting_vla_jax.evaluate.compare import compare
from drifting_vla_jax.report.run.reader import Evaluation, Run

# Every way an episode ends (rollout/episode.py), best first; the place in this list is its colour.
OUTCOMES = {
    "success": "the condition was held",
    "time_limit": "not held within the steps allowed",
    "ended": "the simulator ended the episode before it was held",
    "invalid_action": "the simulator refused the action",
    "ik": "no joint angles reach the target",
    "path": "no path leads to the target",
    "timeout": "the simulator did not answer in time",
    "refused": "the policy led to a state, or gave an answer, that its server refuses",
    "env_crash": "the simulator crashed: not counted",
    "server_lost": "the policy server was lost: not counted",
}


def success(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row per task of any run, and one of all episodes: {"name", "cells": rates of each run's newest evaluation or None}."""
    newest = [run.newest for run in runs]
    names = dict.fromkeys(name for evaluation in newest if evaluation for name in evaluation.tasks)
    rows = [{"name": name, "cells": [e.tasks.get(name) if e else None for e in newest]} for name in names]
    return [*rows, {"name": "all episodes", "cells": [e.results["overall"] if e else None for e in newest]}]


def outcomes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row per task and one of all: {"name", "total", "parts": [(outcome, count)]}, known outcomes in their order."""
    rows = [(name, Counter(task["outcomes"])) for name, task in evaluation.tasks.items()]
    rows.append(("all episodes", sum((counts for _, counts in rows), Counter())))
    order = list(OUTCOMES)
    return [
        {
            "name": name,
            "total": counts.total(),
            "parts": sorted(counts.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)),
        }
        for name, counts in rows
    ]


def latency(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Percentiles in ms over all requests: the round trip that the robot waits for, and the part in the network."""
    rows = []
    for name, key in (("round trip", "round_trip_ms"), ("in the network", "infer_ms")):
        values = [value for episode in evaluation.episodes for value in episode[key]]
        if values:
            cuts = np.percentile(values, [50, 95, 99, 100])
            rows.append({"name": name, "requests": len(values), "ms": [float(cut) for cut in cuts]})
    return rows


def pairs(a: Evaluation, b: Evaluation) -> tuple[list[dict[str, Any]], str]:
    """Rows of the episodes that both ran, per task and all; or no rows and why there are none."""
    try:
        groups = compare(a.folder, b.folder)
    except ValueError as error:  # other simulator, other rules, other episodes: an answer too
        return [], str(error)
    rows = []
    for name, paired in groups.items():
        low, high = paired.interval()
        rows.append(
            {"name": name, "n": paired.n, "successes": paired.successes, "only": (paired.only_a, paired.only_b)}
            | {"difference": paired.difference, "low": low, "high": high, "p": paired.p_value()}
        )
    return rows, ""
