"""What several runs learned, by their errors on held-out episodes: at equal steps and at equal time."""

from __future__ import annotations

from collections.abc import Sequence

from drifting_vla_jax.report.results import tables
from drifting_vla_jax.report.results.entries import Entry
from drifting_vla_jax.report.run import summary as facts

ROTATION = "val/rotation_error_deg"
VAL = {
    "val/position_error_cm": "position error, cm",
    ROTATION: "rotation error, degrees",
    "val/energy_score": "energy score",
}
NO_TURN = 0.1  # degrees: no larger an error is rounding, in a task where the hand never turns


def equal_time(entries: Sequence[Entry]) -> tables.Table | None:
    """Held-out errors at the end, at the step and at the time to which every run came; None of fewer than two runs."""
    chosen = [e for e in tables.one_of_each_run(entries) if facts.clock(e.run)]
    if len(chosen) < 2:
        return None
    step = min(max(facts.clock(e.run)) for e in chosen)
    minutes = min(max(facts.clock(e.run).values()) for e in chosen)
    names = held_out(chosen)
    rows = []
    for entry in chosen:
        clock = facts.clock(entry.run)
        then = max((s for s, m in clock.items() if m <= minutes), default=0)
        cells = [_errors(entry, at, names) for at in (max(clock), step, then)]
        pace = max(clock) / clock[max(clock)]
        rows.append([f"{entry.objective}, {entry.run.workdir.name}", f"{max(clock):,}"])
        rows[-1] += [f"{clock[max(clock)]:.0f} min", *cells, f"{then:,}", f"{pace * minutes:,.0f}"]
    heads = (
        "run",
        "steps",
        "time",
        "at the end",
        f"at step {step:,}",
        f"after {minutes:.0f} min",
        "its step then",
        "steps in that time",
    )
    note = (
        f"Held-out {' / '.join(VAL[name] for name in names)}, of the last validation by then. A learning rate that falls over "
        "all steps has not fallen yet in the middle of a run: for a fair comparison at equal time train with "
        "--config.train.steps of the last column and give that run to this page too."
    )
    return tables.Table("At equal steps and at equal time", note, heads, rows)


def held_out(entries: Sequence[Entry]) -> list[str]:
    """The metrics of ``VAL``: the rotation's only where something turns."""
    turns = any(v >= NO_TURN for e in entries for v in e.run.metrics.get(ROTATION, {}).values())
    return [name for name in VAL if turns or name != ROTATION]


def _errors(entry: Entry, step: int, names: Sequence[str]) -> str:
    cells = []
    for name in names:
        points = {s: value for s, value in entry.run.metrics.get(name, {}).items() if s <= step}
        cells.append(f"{points[max(points)]:.3g}" if points else "-")
    return " / ".join(cells)
