"""What evaluations found: D2 success by checkpoint and task, D3 latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drifting_vla_jax.figures.style import NothingToDrawError, Theme, picture, plain_numbers, title

_PANELS = 24
_BINS = 40


@dataclass(frozen=True)
class Evaluated:
    """Evaluations of one run.

    Attributes:
      success: {task: [k 4]}: checkpoint step, rate of success, low and high end of its 95% interval, steps ascending.
      round_trip_ms, infer_ms: of every request of the newest one: what the robot waited, and the network's part in it.
    """

    success: Mapping[str, np.ndarray] = field(default_factory=dict)
    round_trip_ms: Sequence[float] = ()
    infer_ms: Sequence[float] = ()


@picture(1200, 680)
def success_over_training(figure: Figure, theme: Theme, success: Mapping[str, np.ndarray]) -> None:
    """A panel per task with its interval at every checkpoint; of very many tasks those that the last one does worst at.

    Args:
      success: see ``Evaluated``.
    """
    if not success:
        raise NothingToDrawError("no evaluation has finished")
    shown = sorted(sorted(success, key=lambda task: success[task][-1, 1])[:_PANELS], key=list(success).index)
    columns = int(np.ceil(np.sqrt(1.4 * len(shown))))
    rows = -(-len(shown) // columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, task in zip(grid, shown):
        steps, rate, low, high = success[task].T
        axes.fill_between(steps, 100 * low, 100 * high, color=theme.expert, alpha=0.2, linewidth=0)
        reach = 100 * np.stack([rate - low, high - rate])
        axes.errorbar(
            steps, 100 * rate, np.maximum(reach, 0), color=theme.expert, marker="o", elinewidth=0.5 * theme.line
        )
        axes.set_title(task, fontsize="medium" if columns < 4 else "small")
        axes.set_ylim(-4, 104)
        axes.locator_params(axis="x", nbins=4, integer=True)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("checkpoint (training step)", fontsize="medium")
    figure.supylabel("held success (%), bar: 95% interval", fontsize="medium")
    some = "" if len(shown) == len(success) else f", the {len(shown)} lowest of {len(success)} tasks"
    title(figure, f"Success over training{some}")


@picture(900, 480)
def latency(figure: Figure, theme: Theme, round_trip_ms: Sequence[float], infer_ms: Sequence[float]) -> None:
    """Histograms of all requests of an evaluation, in the same bins; marks at the median and the 95th percentile."""
    if not len(round_trip_ms):
        raise NothingToDrawError("no evaluation has finished")
    axes = figure.subplots()
    every = np.maximum([*round_trip_ms, *infer_ms], 1e-3)
    bins = np.geomspace(0.9 * every.min(), 1.1 * every.max(), _BINS + 1)
    for values, colour, name in (
        (infer_ms, theme.expert, "in the network"),
        (round_trip_ms, theme.sample, "round trip"),
    ):
        if len(values):
            _histogram(axes, np.asarray(values, float), bins, colour, name)
    axes.set(xscale="log", xlabel="time of a request (ms, log scale)", ylabel="share of requests (%)")
    plain_numbers(axes.xaxis)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    title(figure, f"Latency of {len(round_trip_ms):,} requests")


def _histogram(axes: Axes, values: np.ndarray, bins: np.ndarray, colour: str, name: str) -> None:
    p50, p95 = np.percentile(values, [50, 95])
    share = np.full(len(values), 100 / len(values))
    label = f"{name}: p50 {p50:.1f}, p95 {p95:.1f} ms"
    axes.hist(values, bins, weights=share, color=colour, alpha=0.45, histtype="stepfilled", label=label)
    axes.axvline(p50, color=colour)
    axes.axvline(p95, color=colour, linestyle="--")
