"""Results as a table for a terminal, a log or a README.

task           success       rate   95% interval   latched   steps
drawer-close    20 / 20   100.0 %    83.9 - 100 %   100.0 %      31
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drifting_vla_jax.envs.registry import info_if_known
from drifting_vla_jax.evaluate.statistics import by_group

_COLUMNS = ("success", "rate", "95% interval", "latched", "steps")


def format_results(results: Mapping[str, Any]) -> str:
    """results.json -> text: a row per task, all episodes, the mean over tasks, latency, and what is amiss."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, show_footer=True)
    table.add_column("task", footer="all episodes")
    for name, total in zip(_COLUMNS, _cells(results["overall"])):
        table.add_column(name, footer=total, justify="right")
    for name, task in results["tasks"].items():
        table.add_row(escape(name), *_cells(task))
    return "\n".join([_text(table), "", *_notes(results)])


def format_sweep(results: Mapping[int, Mapping[str, Any]]) -> str:
    """{actions executed of each chunk: results.json} -> text: success against how often the policy is asked, a row each."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name in ("execute", *_COLUMNS, "mean over tasks", "round trip p50"):
        table.add_column(name, justify="right")
    for value, result in results.items():
        overall, latency = result["overall"], result["latency_ms"]["p50"]
        asked = "-" if latency is None else f"{latency:.1f} ms"
        table.add_row(str(value), *_cells(overall), _percent(overall["mean_over_tasks"]), asked)
    return _text(table)


def _text(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().split("\n") if line.strip())


def _notes(results: Mapping[str, Any]) -> list[str]:
    overall, latency, infer = results["overall"], results["latency_ms"], results["infer_ms"]
    hold, evaluations = results["settings"]["hold_steps"], results["evaluations_per_chunk"]
    notes = [
        f"mean over tasks {_percent(overall['mean_over_tasks'])}; success: held for {hold} steps, latched: at any step",
        f"{results['objective']} at step {results['checkpoint_step']}, network evaluations per chunk: {evaluations}",
    ]
    if latency["p50"] is not None:
        network = f"in the network p50 {infer['p50']:.1f} ms"
        notes.append(f"round trip p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms; {network}")
    task_groups = info_if_known(results["settings"].get("environment", "")).task_groups
    if len(groups := by_group(results, task_groups)) > 1:
        said = [f"{name} {_percent(g['success_rate'])} / {_percent(g['latched_rate'])}" for name, g in groups.items()]
        notes.append("mean over tasks by difficulty, held / latched: " + ", ".join(said))
    causes = {name: task["outcomes"] for name, task in results["tasks"].items()}
    failures = [
        f"{count} x {outcome.replace('_', ' ')} in {name}"
        for name, outcomes in causes.items()
        for outcome, count in outcomes.items()
        if outcome not in ("success", "time_limit")
    ]
    if failures:
        notes.append("other outcomes: " + ", ".join(failures))
    if overall["unscored"]:
        notes.append(f"not counted above: {overall['unscored']} (the simulator or the server failed, not the policy)")
    return notes


def _cells(group: Mapping[str, Any]) -> list[str]:
    n = group["n"]
    if not n:
        return ["0 / 0", *["-"] * (len(_COLUMNS) - 1)]
    return [
        f"{group['successes']} / {n}",
        _percent(group["success_rate"]),
        f"{100 * group['low']:.1f} - {100 * group['high']:.1f} %",
        _percent(group["latched_rate"]),
        f"{group['mean_steps']:.0f}",
    ]


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"
