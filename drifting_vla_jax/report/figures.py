"""Command line: the figures of a run, as files.

    python -m drifting_vla_jax.report.figures --workdir=runs/mine [--step=500] [--figures=A1_drifting_field,D3_latency]

Reads WORKDIR/figures/snapshots/<step>.npz, metrics.jsonl and eval/; writes WORKDIR/figures/<name>/<step>.png, and .mp4 for
films. What a figure shows of metrics and evaluations ends at its step. It may be called while the run trains.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from drifting_vla_jax.core import cli
from drifting_vla_jax.report.run.curves import same_rules
from drifting_vla_jax.report.run.reader import Run, read_run

if TYPE_CHECKING:
    from drifting_vla_jax.figures.registry import Plot

FLAGS = flags.FLAGS
FORMATS = ("png", "pdf", "svg")
MAX_FPS = 30.0


def draw_figures(
    workdir: Path,
    step: str = "",
    names: Sequence[str] = (),
    theme: str = "light",
    scale: int = 1,
    suffix: str = "png",
    out: Path | None = None,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Draws and writes figures, each said in one line.

    Args:
      workdir: the run.
      step: of a snapshot; "all" of them; empty: the newest, or without any the newest evaluation's step.
      names: of ``gallery.PLOTS``, or import paths; all of the package if empty.
      theme, scale: see ``figures.style``. suffix: of ``FORMATS``; films are always .mp4.
      out: the folder to write into, workdir/figures if None.

    Returns:
      The names of figures that failed; one that has nothing to draw has not failed.

    Raises:
      FileNotFoundError, ValueError: no run, no such snapshot, figure or theme; a damaged file.
    """
    from drifting_vla_jax.figures import registry as gallery  # not before: --help should not wait for matplotlib
    from drifting_vla_jax.figures import style as themes

    plots = [gallery.find_plot(name) for name in names] or list(gallery.PLOTS.values())
    look = _known(themes.THEMES, theme, "theme")
    run = read_run(workdir)
    failed = []
    for number, snapshot in _steps(run, step):
        for plot in plots:
            at = number
            if plot.source == "evaluations" and run.newest and not step:  # the newest may be of a later checkpoint
                at = max(number, run.newest.step)
            sources = _sources(run, at, snapshot)
            path = (out or run.workdir / "figures") / plot.name / f"{at:08d}.{'mp4' if plot.film else suffix}"
            start = time.perf_counter()
            try:
                _write(plot, sources[plot.source](), look, scale, path)
                say(f"{plot.name:<26} {path}  ({time.perf_counter() - start:.1f} s)")
            except themes.NothingToDrawError as reason:
                say(f"{plot.name:<26} left out: {reason}")
            except Exception as error:  # one figure's bug is no reason to have none
                failed.append(plot.name)
                say(f"{plot.name:<26} FAILED: {type(error).__name__}: {error}")
    return failed


def _known(table: dict, name: str, what: str):
    if name not in table:
        raise ValueError(f"no {what} is called {name!r}; expected one of {', '.join(table)}")
    return table[name]


def _steps(run: Run, wanted: str) -> list[tuple[int, Path | None]]:
    """(step, its snapshot or None) to draw, ascending."""
    paths = sorted((run.workdir / "figures" / "snapshots").glob("*.npz"))
    snapshots = {int(path.stem): path for path in paths if path.stem.isdecimal()}
    if wanted == "all" and snapshots:
        return list(snapshots.items())
    if wanted in ("", "all"):
        newest = run.newest.step if run.newest else run.steps
        return [(step := max(snapshots, default=newest), snapshots.get(step))]
    if not wanted.isdecimal() or int(wanted) not in snapshots:
        there = ", ".join(map(str, snapshots)) or "none"
        raise ValueError(
            f"--step={wanted}: there is no such snapshot in {run.workdir}/figures/snapshots; there are: {there}"
        )
    return [(int(wanted), snapshots[int(wanted)])]


def _sources(run: Run, step: int, snapshot: Path | None) -> dict[str, Callable[[], Any]]:
    """What figures are drawn from, as functions: only what is drawn is read."""
    from drifting_vla_jax.figures.inputs import FigureInputs
    from drifting_vla_jax.figures.style import NothingToDrawError

    def arrays() -> FigureInputs:
        if snapshot is None:
            raise NothingToDrawError("the run has no snapshots")
        return FigureInputs.load(snapshot)

    def metrics() -> dict[str, dict[int, float]]:
        return {name: {at: v for at, v in points.items() if at <= step} for name, points in run.metrics.items()}

    return {"snapshot": arrays, "metrics": metrics, "evaluations": lambda: evaluated(run, step)}


def evaluated(run: Run, step: int):
    """``figures.evaluations.Evaluated`` of the checkpoints up to ``step``, as far as they were run by the same rules."""
    from drifting_vla_jax.figures.evaluations import Evaluated

    done = [evaluation for evaluation in run.evaluations if evaluation.step <= step]
    if not done:
        return Evaluated()
    alike = same_rules(done)
    rates: dict[str, list] = {}
    for at, evaluation in sorted(alike.items()):
        for task, rate in ({"all episodes": evaluation.results["overall"]} | evaluation.tasks).items():
            if rate["n"]:
                rates.setdefault(task, []).append((at, rate["success_rate"], rate["low"], rate["high"]))
    times = ([t for e in done[-1].episodes for t in e[key]] for key in ("round_trip_ms", "infer_ms"))
    return Evaluated({task: np.array(rows, float) for task, rows in rates.items()}, *times)


def _write(plot: Plot, source: Any, theme: Any, scale: int, path: Path) -> None:
    from drifting_vla_jax.figures import style as themes

    if plot.film:
        film(path, plot.draw(source, theme), frame_rate(source.episode_steps, source.control_hz))
    else:
        themes.save(plot.draw(source, theme), path, scale)


def film(path: Path, frames, fps: float) -> None:
    """Writes frames as an .mp4, there whole or not at all."""
    from drifting_vla_jax.rollout.video import VideoWriter

    writer = VideoWriter(path, fps)
    try:
        for frame in frames:
            writer.add(frame)
        writer.close()
    finally:
        writer.discard()


def frame_rate(steps: np.ndarray, control_hz: float) -> float:
    """Frames per second at which an episode's time steps play in real time, within what players can show."""
    apart = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    return float(np.clip(control_hz / max(apart, 1.0), 1.0, MAX_FPS))


def main(_) -> None:
    names = [name for name in FLAGS.figures if name]
    out = Path(FLAGS.out) if FLAGS.out else None
    failed = draw_figures(Path(FLAGS.workdir), FLAGS.step, names, FLAGS.theme, int(FLAGS.scale), FLAGS.format, out)
    if failed:
        cli.fail(f"{len(failed)} of the figures failed: {', '.join(dict.fromkeys(failed))}", 1)


if __name__ == "__main__":
    cli.define_path("workdir", None, "directory of the run", required=True)
    flags.DEFINE_string("step", "", "of which snapshot: its training step, or all; the newest if empty")
    flags.DEFINE_list(
        "figures", [], "names or import paths of figures, separated by commas; all of the package if empty"
    )
    flags.DEFINE_string("theme", "light", "light, dark, paper or presentation")
    flags.DEFINE_enum("scale", "1", ["1", "2"], "times each figure's size in pixels")
    flags.DEFINE_enum("format", "png", FORMATS, "of the files; films are always mp4")
    cli.define_path("out", "", "folder to write into; WORKDIR/figures if empty", writes="folder")
    cli.run(main)
