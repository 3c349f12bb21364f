"""One HTML file from a run, or from two side by side.

The template, style and script lie in ``assets/`` with uPlot (MIT, 51 kB: zoom, hover, log axes), which draws the curves. All
of them are written into the page, and everything a run says is escaped on its way there: instructions are anybody's text.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.report import html as template
from drifting_vla_jax.report.run import curves, evaluations
from drifting_vla_jax.report.run import images as pictures
from drifting_vla_jax.report.run import summary as facts
from drifting_vla_jax.report.run import videos as films
from drifting_vla_jax.report.run.reader import Run, read_run

VIDEO_BUDGET = 20 * 2**20  # bytes of the page


def write_report(workdir: Path, other: Path | None = None, budget: int = VIDEO_BUDGET) -> tuple[Path, list[dict]]:
    """Writes workdir/report/index.html, atomically.

    Args:
      workdir: the run.
      other: a second one, shown beside it.
      budget: bytes of the page that videos may take; the others are linked.

    Returns:
      The page, and its films (see ``videos.choose_films``).

    Raises:
      FileNotFoundError, ValueError: see ``reader.read_run``.
    """
    runs = [read_run(path) for path in (workdir, other) if path]
    page = Path(workdir) / "report" / "index.html"
    chosen = films.choose_films(runs, page, budget)
    page.parent.mkdir(exist_ok=True)
    write_atomically(page, render(runs, chosen, page))
    return page, chosen


def render(runs: list[Run], chosen: list[dict[str, Any]], page: Path) -> str:
    """The page's text."""
    rows, base_known = facts.config_rows(runs)
    both = [run.newest for run in runs if run.newest]
    paired, why_not = evaluations.pairs(*both) if len(both) == 2 else ([], "")
    return template.render(
        "page.html.jinja",
        runs=[_about(number, run, page) for number, run in enumerate(runs)],
        comparing=len(runs) == 2,
        success=evaluations.success(runs),
        over_training=curves.success_over_training(runs),
        paired=paired,
        why_not=why_not,
        groups=curves.curves(runs),
        figures=pictures.choose_pictures(runs),
        trajectories=[film for film in chosen if "step" in film],
        films=[film for film in chosen if "episode" in film],
        outcomes=evaluations.OUTCOMES,
        config=rows,
        base_known=base_known,
    )


def _about(number: int, run: Run, page: Path) -> dict[str, Any]:
    """What the template shows of one run."""
    state, steps = facts.state(run)
    newest = run.newest
    last = {name: list(points.values())[-1] for name, points in run.metrics.items()}
    return {
        "number": number,
        "name": run.config["name"],
        "workdir": str(run.workdir),
        "summary": facts.summary(run.config),
        "state": state,
        "steps": steps,
        "header": facts.header(run),
        "tiles": _tiles(run, last),
        "slowest": facts.slowest_parts(run),
        "episode_time": facts.episode_time(run),
        "evaluation": newest,
        "evaluation_link": os.path.relpath(newest.folder, page.parent) if newest else "",
        "outcomes": evaluations.outcomes(newest) if newest else [],
        "latency": evaluations.latency(newest) if newest else [],
        "others": run.evaluations[-2::-1],
        "command": facts.evaluation_command(run),
    }


def _tiles(run: Run, last: dict[str, float]) -> list[tuple[str, str, str]]:
    """(what, the number, what it is of)."""
    tiles = []
    if run.newest and run.newest.results["overall"]["n"]:
        overall = run.newest.results["overall"]
        interval = f"{100 * overall['low']:.1f} to {100 * overall['high']:.1f} %, {overall['n']} episodes"
        tiles.append(("held success", template.percent(overall["success_rate"]), interval))
    if "val/position_error_cm" in last:
        tiles.append(("position error", f"{last['val/position_error_cm']:.2f} cm", "single samples, held-out episodes"))
    elif "val/joint_error" in last:
        tiles.append(("joint error", f"{last['val/joint_error']:.3g}", "the joints' own unit, held-out episodes"))
    if run.newest and run.newest.results["latency_ms"]["p50"] is not None:
        latency = run.newest.results["latency_ms"]
        calls = run.newest.results["evaluations_per_chunk"]
        text = f"p95 {latency['p95']:.1f} ms, {calls} network evaluation{'s' if calls != 1 else ''} per chunk"
        tiles.append(("round trip, p50", f"{latency['p50']:.1f} ms", text))
    if "train/samples_per_second" in last:
        tiles.append(("training speed", f"{last['train/samples_per_second']:,.0f} /s", "samples, last window"))
    return tiles
