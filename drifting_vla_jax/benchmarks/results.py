"""What a suite found, as markdown for people and JSON for machines: tables of times, figures, and goals met or missed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from drifting_vla_jax.benchmarks import machine
from drifting_vla_jax.benchmarks.timing import Comparison, Measured
from drifting_vla_jax.core.text import shown


@dataclass(frozen=True)
class Goal:
    """A figure that was promised.

    Attributes:
      what: it says.
      target: the least it should be; the most, if ``at_most``.
      value: what was measured; None: nothing, and ``reason`` says why.
    """

    what: str
    target: float
    value: float | None
    at_most: bool = False
    reason: str = ""

    @property
    def met(self) -> bool | None:
        """None if there is no value."""
        if self.value is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


def goal(what: str, target: float, value: Callable[[], float], at_most: bool = False) -> Goal:
    """A goal whose value needs rows that may not be there: then its reason is theirs."""
    try:
        return Goal(what, target, float(value()), at_most)
    except KeyError as error:
        return Goal(what, target, None, at_most, str(error.args[0]))


@dataclass
class Report:
    """Everything a suite found.

    Attributes:
      contests: with the name of the row that others are compared with.
      figures: tables of anything else: title -> rows of cells, the first of which are the heads.
      goals: what was promised.
    """

    contests: list[tuple[Comparison, str]] = field(default_factory=list)
    figures: dict[str, list[list[str]]] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [contest_table(contest, reference) for contest, reference in self.contests]
        parts += [f"{title}\n\n{table(rows)}" for title, rows in self.figures.items()]
        return "\n\n".join([*parts, goals_table(self.goals)] if self.goals else parts) + "\n"

    def json(self) -> dict:
        contests = [dataclasses.asdict(contest) | {"reference": reference} for contest, reference in self.contests]
        goals = [dataclasses.asdict(g) | {"met": g.met} for g in self.goals]
        return {"contests": contests, "figures": self.figures, "goals": goals}


def table(rows: list[list[str]]) -> str:
    """Markdown of rows of cells, the first of which are the heads."""
    head, *body = ["| " + " | ".join(shown(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def contest_table(contest: Comparison, reference: str) -> str:
    """Times, and how many times faster the row called ``reference`` is per sample."""
    rows = [_row(row, contest, reference) for row in contest.rows]
    heads = ["", "median ms", "min - max", "samples/s", f"{reference} is faster", "GFLOP/s", "scratch MB", "compile s"]
    keep = [i for i, _ in enumerate(heads) if i < 3 or any(row[i] for row in rows)]
    cells = [[line[i] for i in keep] for line in [heads, *rows]]
    runs = len(contest.rows[0].run_s) if contest.rows else 0
    title = f"{contest.title} ({runs} rounds in turn; load {contest.load[0]:.1f} before, {contest.load[1]:.1f} after)"
    notes = [f"{row.name}: {row.note}" for row in contest.rows if row.note]
    notes += [f"{absent.name}: not measured: {absent.reason}" for absent in contest.absent]
    return "\n\n".join([title, table(cells), *(["\n".join(f"- {note}" for note in notes)] if notes else [])])


def _row(row: Measured, contest: Comparison, reference: str) -> list[str]:
    base = {r.name: r for r in contest.rows}.get(reference)
    comparable = base is not None and row.name != reference and not row.name.startswith(machine.PEAK)
    share = machine.mfu(row)
    return [
        row.name,
        milliseconds(row.median_s),
        f"{milliseconds(min(row.run_s))} - {milliseconds(max(row.run_s))}",
        f"{row.samples / row.median_s:.3g}" if row.samples > 1 else "",
        f"{base.rate_over(row):.2f} x" if comparable else "",
        _speed(row) + (f" ({share:.0%} MFU)" if share else ""),
        f"{row.temp_mb:.3g}" if row.temp_mb else "",
        f"{row.compile_s:.1f}" if row.compile_s is not None else "",
    ]


def _speed(row: Measured) -> str:
    return f"{row.flops / row.median_s / 1e9:.0f}" if row.flops else ""


def goals_table(goals: list[Goal]) -> str:
    """Met, missed, or not measured and why."""
    rows = [["goal", "target", "measured", ""]]
    for g in goals:
        said = {None: f"not measured: {g.reason}", True: "met", False: "missed"}[g.met]
        value = "-" if g.value is None else f"{g.value:.3g}"
        rows.append([g.what, f"{'<=' if g.at_most else '>='} {g.target:g}", value, said])
    return table(rows)
