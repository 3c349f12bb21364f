"""Command line: the page of results of several runs on the same tasks, beside what others publish, and its tables as markdown.

    python -m drifting_vla_jax.report.results.page --runs=runs/mt10,runs/mt10-flow,runs/mt10-regression --out=runs/mt10-results

Writes OUT/index.html, one file that opens anywhere, and OUT/results.md. What is not evaluated yet (``evaluate.suite``) is left
out or a dash; the command may be called at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.envs.registry import info_if_known
from drifting_vla_jax.report import html as template
from drifting_vla_jax.report.results import learning, rates, tables
from drifting_vla_jax.report.results.entries import Entry, read_entries
from drifting_vla_jax.report.results.rates import Rate
from drifting_vla_jax.report.run import summary as facts
from drifting_vla_jax.report.run import videos as films
from drifting_vla_jax.report.run.evaluations import OUTCOMES
from drifting_vla_jax.report.run.page import VIDEO_BUDGET

FLAGS = flags.FLAGS


def write_results(workdirs: Sequence[Path], out: Path, budget: int = VIDEO_BUDGET) -> tuple[Path, Path]:
    """Writes both files, atomically.

    Args:
      workdirs: runs, in the page's order.
      budget: bytes of the page that videos may take; the others are linked.

    Returns:
      The page, and the tables as markdown.

    Raises:
      FileNotFoundError, ValueError: see ``entries.read_entries``; no run has a finished evaluation.
    """
    entries = read_entries(workdirs)
    if not any(entry.plain for entry in entries):
        raise FileNotFoundError(
            f"nothing is evaluated yet of {', '.join(map(str, workdirs))}; python -m drifting_vla_jax.evaluate.suite "
            f"--runs={','.join(map(str, workdirs))} does that"
        )
    out.mkdir(parents=True, exist_ok=True)
    page, text = out / "index.html", out / "results.md"
    found, intervals = all_tables(entries)
    write_atomically(text, f"{_lead(entries)}\n\n{tables.markdown(found)}\n{_again(workdirs, out)}")
    write_atomically(page, _render(entries, found, intervals, page, budget, _again(workdirs, out)))
    return page, text


def all_tables(entries: Sequence[Entry]) -> tuple[list[tables.Table], dict[str, dict[int, Rate]]]:
    """In the page's order, empty ones left out; and what the curve of the replan intervals shows."""
    interval, curve = tables.by_interval(entries)
    found = [tables.runs(entries), *tables.by_group(entries)]
    found += tables.neighbours(entries)
    found += [tables.by_task(entries), *tables.pairs(entries), tables.changed(entries), tables.late(entries), interval]
    found += [tables.latency(entries), learning.equal_time(entries)]
    return [table for table in found if table and table.rows], curve


def _lead(entries: Sequence[Entry]) -> str:
    first = next(entry for entry in entries if entry.plain)
    per_task = min(task["n"] for task in first.plain.tasks.values())
    about = facts.summary(first.run.config).partition(" on ")[2]
    held = first.plain.results["settings"]["hold_steps"]
    return (
        f"{about[0].upper()}{about[1:]}. At least {per_task} episodes of each task, success held for {held} control steps; in "
        "brackets behind a policy's name: network evaluations per chunk."
    )


def _again(workdirs: Sequence[Path], out: Path) -> str:
    named = ",".join(map(str, workdirs))
    return (
        f"    python -m drifting_vla_jax.evaluate.suite --runs={named}\n"
        f"    python -m drifting_vla_jax.report.results.page --runs={named} --out={out}\n"
    )


def _render(entries, found, intervals, page: Path, budget: int, again: str) -> str:
    groups = [{"title": "Learning curves", "charts": list(learning_curves(entries))}]
    if intervals:
        groups.append({"title": "Success and how often the policy is asked", "charts": [_interval_chart(intervals)]})
    return template.render(
        "results.html.jinja",
        name=info_if_known(entries[0].run.config["env.name"]).title,
        lead=_lead(entries),
        tables=found,
        groups=[group for group in groups if group["charts"]],
        films=films.embed(list(chosen_films(entries)), page, budget),
        outcomes=OUTCOMES,
        again=again,
        names=[entry.name for entry in entries],
    )


def learning_curves(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Charts of held-out errors and of success beside the training, a line per run: against steps, against minutes."""
    colours = {entry.run.workdir.name: number for number, entry in enumerate(entries)}  # of what it was trained to be
    runs = list({entry.run.workdir: entry.run for entry in entries}.values())
    for metric in (*learning.held_out(entries), "sim/success_rate"):
        by_step = {run.workdir.name: run.metrics.get(metric, {}) for run in runs}
        by_minute = {
            run.workdir.name: {
                round(minutes, 2): value
                for step, value in run.metrics.get(metric, {}).items()
                if (minutes := facts.minutes_at(run, step)) is not None
            }
            for run in runs
        }
        for axis, lines in (("step", by_step), ("minutes", by_minute)):
            if any(lines.values()):
                yield _chart(f"{metric}, {axis}", axis, lines, colours)


def _interval_chart(intervals: Mapping[str, Mapping[int, Rate]]) -> dict[str, Any]:
    lines = {name: {execute: 100 * cell.value for execute, cell in cells.items()} for name, cells in intervals.items()}
    colours = {name: next(iter(cells.values())).colour for name, cells in intervals.items()}
    return _chart("held success by actions executed", "actions", lines, colours) | {"unit": "%"}


def _chart(
    title: str, axis: str, lines: Mapping[str, Mapping[float, float]], colours: Mapping[str, int]
) -> dict[str, Any]:
    """What assets/charts.js draws: each line in the colour that its policy has on the page."""
    at = sorted({x for points in lines.values() for x in points})
    shown = [
        {"label": name, "run": 0, "part": colours[name], "values": [points.get(x) for x in at]}
        for name, points in lines.items()
        if points
    ]
    return {"title": title, "unit": "", "log": False, "steps": at, "lines": shown, "x": axis, "sync": axis}


def chosen_films(entries: Sequence[Entry]) -> Iterator[tuple[int, Path, dict]]:
    """Of every task and policy the first success and the first failure that were filmed."""
    tasks = dict.fromkeys(name for entry in entries if entry.plain for name in entry.plain.tasks)
    for task in tasks:
        for number, entry in enumerate(entries):
            filmed = [e for e in rates.counted(entry.plain) if e["task"] == task and e["video"]] if entry.plain else []
            for wanted in (True, False):
                episode = next((e for e in filmed if e["success"] == wanted), None)
                if episode:
                    yield number, entry.plain.folder / episode["video"], {"episode": episode}


def main(_) -> None:
    out = Path(FLAGS.out)
    with owned(out):
        page, text = write_results([Path(name) for name in FLAGS.runs], out, int(FLAGS.video_mb * 2**20))
    print(text.read_text())
    print(f"page     {page}  ({page.stat().st_size / 2**20:.1f} MB)\ntables   {text}")


if __name__ == "__main__":
    cli.define_paths("runs", None, "directories of runs", required=True)
    cli.define_path("out", None, "folder of the page", writes="folder", required=True)
    flags.DEFINE_float(
        "video_mb", VIDEO_BUDGET / 2**20, "size of the page that videos may take", *ranges.MEGABYTES.bounds
    )
    cli.run(main)
