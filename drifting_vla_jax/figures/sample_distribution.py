"""What the samples are like as a set: B1 their distribution, C2 the modes they cover, D1 their spread beside their error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from drifting_vla_jax.core.sample_statistics import expert_spread, spread_and_error
from drifting_vla_jax.figures.projection import CLEAR_MODES, find_modes, flat, joint_plane
from drifting_vla_jax.figures.style import NothingToDrawError, Theme, annotate, picture, plain_numbers, title
from drifting_vla_jax.figures.units import BOUNDARY, BOUNDARY_UNITS, one_hemisphere

_BINS = 41  # odd: a number that never changes lies in the middle of one
_NARROWEST = 0.1  # of a histogram, in its unit
_FLOOR = 1e-3  # of a spread or an error on a logarithmic axis, standard deviations


@picture(1200, 620)
def action_distribution(figure: Figure, theme: Theme, chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray) -> None:
    """Histograms of all samples and of the experts per number of an action, in the data's order and the same bins.

    Args:
      chunks: [b g h 8]; wanted: [b h 8], m, quaternion x y z w, opening. real: [b h].
    """
    if not real.any():
        raise NothingToDrawError("no step of the held-out chunks is real")
    scale = np.array([100.0] * 3 + [1.0] * 5)
    predicted, expert = (scale * actions for actions in one_hemisphere(chunks, wanted))
    predicted = predicted[np.broadcast_to(real[:, None] > 0, predicted.shape[:-1])]
    expert = expert[real > 0]
    grid = figure.subplots(2, 4).ravel()
    for i, axes in enumerate(grid):
        low, high = (f(np.concatenate([predicted[:, i], expert[:, i]])) for f in (np.min, np.max))
        widen = max(0.0, (_NARROWEST - (high - low)) / 2)
        bins = np.linspace(low - widen, high + widen, _BINS + 1)
        heights = []
        for values, colour, name in ((expert, theme.expert, "expert"), (predicted, theme.sample, "samples")):
            share = np.full(len(values), 1 / len(values))
            counts, _, _ = axes.hist(
                values[:, i], bins, weights=share, color=colour, alpha=0.5, histtype="stepfilled", label=name
            )
            heights.append(counts)
        unit = f" ({BOUNDARY_UNITS[i]})" if BOUNDARY_UNITS[i] else ""
        axes.set_title(f"{BOUNDARY[i]}{unit}")
        annotate(axes, f"overlap {np.minimum(*heights).sum():.0%}")
        axes.margins(y=0.15)
        axes.locator_params(axis="x", nbins=4)
        axes.margins(x=0.02)
    for axes in grid[::4]:
        axes.set_ylabel("share of steps")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="upper right", ncols=2)
    title(figure, "Distribution of actions: samples and experts")


@picture(1200, 560)
def mode_coverage(figure: Figure, theme: Theme, samples: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
    """Clusters of samples and experts together, and the share of each that lies in every cluster.

    Args:
      samples: [b g h a] network units. target, mask: [b h a].
    """
    x, y = flat(samples, mask), flat(target, mask)
    plane = joint_plane(y, x)
    places, experts = plane.place(x), plane.place(y)
    both = np.concatenate([places, np.repeat(experts, samples.shape[1], axis=0)])  # so that either weighs the same
    labels, silhouette = find_modes(both)
    of_samples, of_experts = labels[: len(x)], labels[len(x) :: samples.shape[1]]
    modes = labels.max() + 1
    cloud, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    ground = {"facecolor": theme.background, "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    for mode in range(modes):
        colour = theme.cycle[mode % len(theme.cycle)]
        cloud.scatter(*places[of_samples == mode].T, s=12, color=colour, alpha=0.6, linewidths=0)
        cloud.scatter(
            *experts[of_experts == mode].T, s=44, marker="D", color=colour, edgecolors=theme.ink, linewidths=0.7
        )
        cloud.annotate(f"{mode + 1}", both[labels == mode].mean(0), weight="bold", fontsize="large", bbox=ground)
    cloud.scatter([], [], s=12, color=theme.muted, label="sample")
    cloud.scatter([], [], s=44, marker="D", color=theme.muted, edgecolors=theme.ink, linewidths=0.7, label="expert")
    cloud.legend()
    cloud.set_aspect("equal", adjustable="datalim")
    plane.label(cloud)
    found = "clear modes" if silhouette >= CLEAR_MODES else "parts of one cloud rather than modes"
    cloud.set_title(f"k = {modes} of 2 to 6 by silhouette {silhouette:.2f}: {found}")
    _bars(bars, theme, *(np.bincount(each, minlength=modes) / len(each) for each in (of_experts, of_samples)))
    title(figure, "Modes: which the experts use, which the samples cover")


def _bars(axes, theme: Theme, experts: np.ndarray, samples: np.ndarray) -> None:
    at = np.arange(len(experts))
    for offset, values, colour, name in (
        (-0.2, experts, theme.expert, "expert"),
        (0.2, samples, theme.sample, "samples"),
    ):
        bars = axes.bar(at + offset, 100 * values, width=0.38, color=colour, label=name)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize="small")
    axes.set_xticks(at, [str(mode + 1) for mode in at])
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.18)
    axes.set(xlabel="mode", ylabel="share (%)")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)


@picture(900, 640)
def sample_spread(
    figure: Figure,
    theme: Theme,
    samples: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray,
    task: np.ndarray,
    tasks: Sequence[str],
) -> None:
    """How far the samples of each observation lie apart, against how far their centre is from the expert.

    Args:
      samples: [b g h a] network units. target, mask: [b h a]. task: [b] into ``tasks``.

    Raises:
      NothingToDrawError: one sample per observation has no spread.
    """
    if samples.shape[1] < 2:
        raise NothingToDrawError("there is one sample per observation, so no spread")
    spread, error = spread_and_error(samples, target, mask)
    experts = expert_spread(target, mask)
    low = max(_FLOOR, 0.7 * float(min(spread.min(), error.min())))
    high = 1.4 * float(max(spread.max(), error.max(), experts or 0, 2 * low))
    axes = figure.subplots()
    axes.fill_between([low, high], [low / 3, high / 3], low, color=theme.accent, alpha=0.1, linewidth=0)
    axes.plot([low, high], [low, high], color=theme.muted, linewidth=0.7 * theme.line)
    for i in np.unique(task):
        mine = task == i
        colour = theme.cycle[i % len(theme.cycle)]
        axes.plot(np.maximum(error[mine], low), np.maximum(spread[mine], low), "o", color=colour, alpha=0.75)
        axes.plot([], [], "o", color=colour, label=tasks[i])
    if experts:
        axes.axhline(
            experts, color=theme.expert, linestyle="--", linewidth=0.8 * theme.line, label="most alike experts"
        )
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set(
        xlabel="RMS distance of the samples' centre to the expert (std. dev.)",
        ylabel="RMS spread of samples (std. dev.)",
    )
    for axis in (axes.xaxis, axes.yaxis):
        plain_numbers(axis)
    annotate(axes, "shaded: sure of something wrong\n(spread below a third of the error)", x=0.97, y=0.03)
    columns = 1 + (len(np.unique(task)) > 6)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns)
    title(figure, "Spread of samples beside their error")
