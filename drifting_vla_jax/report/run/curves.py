"""Metrics as plots: which belong into one, in which unit, and where a logarithmic axis shows more.

Names are prefix/metric or prefix/metric/part: a group of plots per prefix, one plot per metric, one line per part and run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drifting_vla_jax.report.run.reader import Evaluation, Run

UNITS = {"_cm": "cm", "_deg": "degrees", "_ms": "ms", "_share": "share", "_per_second": "1/s", "_accuracy": "share"}
LOG_FROM = 10.0  # largest over smallest value from which an axis starts out logarithmic
LINEAR = ("lr",)  # a schedule is known by its shape
GROUPS = {"train": "Training", "val": "Held-out episodes", "sim": "Simulation beside the training"}


def curves(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """[{"title", "charts": [{"title", "unit", "log", "steps", "lines": [{"label", "run", "part", "values"}]}]}].

    ``values`` has one entry per step of ``steps``, None where this line has none. ``part`` counts the lines of a metric.
    """
    names = sorted(set().union(*(run.metrics for run in runs)))
    groups: dict[str, dict[str, list[str]]] = {}
    for name in names:
        prefix, _, rest = name.partition("/")
        groups.setdefault(prefix, {}).setdefault(rest.partition("/")[0], []).append(name)
    order = sorted(groups, key=lambda prefix: (list(GROUPS).index(prefix) if prefix in GROUPS else len(GROUPS), prefix))
    return [
        {
            "title": GROUPS.get(prefix, prefix),
            "charts": [_chart(prefix, metric, members, runs) for metric, members in groups[prefix].items()],
        }
        for prefix in order
    ]


def _chart(prefix: str, metric: str, names: Sequence[str], runs: Sequence[Run]) -> dict[str, Any]:
    steps = sorted(set().union(*(run.metrics.get(name, {}) for run in runs for name in names)))
    lines = []
    for part, name in enumerate(names):
        short = name.removeprefix(f"{prefix}/{metric}").strip("/") or ("value" if len(names) == 1 else "all")
        for number, run in enumerate(runs):
            if name in run.metrics:
                values = [run.metrics[name].get(step) for step in steps]
                lines.append({"label": _label(short, number, runs), "run": number, "part": part, "values": values})
    seen = [value for line in lines for value in line["values"] if value is not None]
    log = metric not in LINEAR and min(seen) > 0 and max(seen) > LOG_FROM * min(seen)
    unit = next((unit for ending, unit in UNITS.items() if metric.endswith(ending)), "")
    return {"title": f"{prefix}/{metric}", "unit": unit, "log": log, "steps": steps, "lines": lines}


def _label(text: str, number: int, runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return text
    return "AB"[number] if text == "value" else f"{'AB'[number]} {text}"


def success_over_training(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Held success of all episodes by checkpoint with its interval, percent; None where no run has two checkpoints to join.

    A run's curve is of the evaluations with the rules that most of its checkpoints share.
    """
    chosen = [same_rules(run.evaluations) for run in runs]
    if max(len(evaluations) for evaluations in chosen) < 2:
        return None
    steps = sorted(set().union(*chosen))
    lines = []
    for number, by_step in enumerate(chosen):
        for part, (key, text) in enumerate((("success_rate", "success"), ("low", "95% low"), ("high", "95% high"))):
            values = [100 * by_step[step].results["overall"][key] if step in by_step else None for step in steps]
            lines.append({"label": _label(text, number, runs), "run": number, "part": part, "values": values})
    return {
        "title": "held success, all episodes",
        "unit": "%",
        "log": False,
        "steps": steps,
        "lines": lines,
        "band": True,
    }


def same_rules(evaluations: Sequence[Evaluation]) -> dict[int, Evaluation]:
    """By checkpoint step, those evaluations whose rules most checkpoints share."""
    groups: list[dict[int, Evaluation]] = []
    for evaluation in evaluations:
        if not evaluation.results["overall"]["n"]:
            continue
        group = next((g for g in groups if next(iter(g.values())).rules == evaluation.rules), None)
        if group is None:
            groups.append(group := {})
        group[evaluation.step] = evaluation
    return max(groups, key=len, default={})
