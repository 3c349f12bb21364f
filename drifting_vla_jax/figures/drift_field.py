"""The drifting field: where it carries the samples (A1, C1), and how large it is by step (A2) and temperature (A5)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from drifting_vla_jax.figures.projection import Plane, flat, joint_plane
from drifting_vla_jax.figures.style import NothingToDrawError, Theme, annotate, picture, plain_numbers, title


@picture(1200, 640)
def plot_drift_field(
    figure: Figure, theme: Theme, samples: np.ndarray, drift: np.ndarray, target: np.ndarray, mask: np.ndarray
) -> None:
    """Samples with the drift that acts on them, true to scale, and the expert chunks; on the right one observation.

    Args:
      samples, drift: [b g h a] network units. target, mask: [b h a].
    """
    x, v, y = flat(samples, mask), flat(drift, mask), flat(target, mask)
    plane = joint_plane(y, x)
    places, arrows, experts = plane.place(x), plane.turn(v), plane.place(y)
    length = np.linalg.norm(v, axis=1).reshape(len(target), -1).mean(1)
    middle = int(np.argsort(length)[len(length) // 2])
    g = samples.shape[1]
    mine = slice(middle * g, (middle + 1) * g)
    everywhere, close = figure.subplots(1, 2)
    _arrows(everywhere, theme, places, arrows, experts)
    _arrows(close, theme, places[mine], arrows[mine], experts[[middle]])
    figure.legend(*everywhere.get_legend_handles_labels(), loc="upper right", ncols=3)
    everywhere.set_title(f"{len(target)} held-out observations")
    close.set_title("the one with the median drift, close up")
    for axes in (everywhere, close):
        plane.label(axes)
    whole, seen = (np.sqrt(np.mean(np.sum(np.square(each), axis=1))) for each in (v, arrows))
    annotate(everywhere, f"RMS |V| {whole:.3g} std. dev. per chunk, {seen:.3g} of it in this plane")
    title(figure, "Drifting field: where each sample is carried")


def _arrows(axes: Axes, theme: Theme, x: np.ndarray, v: np.ndarray, y: np.ndarray) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.scatter(*y.T, s=40, marker="D", color=theme.expert, label="expert", zorder=2)
    axes.scatter(*x.T, s=12 if len(x) > 64 else 30, color=theme.sample, label="sample", zorder=3, linewidths=0)
    quiver = axes.quiver(
        *x.T, *v.T, color=theme.accent, angles="xy", scale_units="xy", scale=1, width=0.003, zorder=4, label="drift V"
    )
    reach = float(np.ptp(np.concatenate([x, x + v, y]), axis=0).max())
    unit = _nice(max(reach, 1e-6) / 8)
    axes.quiverkey(quiver, 0.88, 1.03, unit, f"{unit:g}", labelpos="E", coordinates="axes")
    axes.margins(0.08)


def _nice(value: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above ``value``."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)) * power)


@picture(900, 480)
def drift_trend(figure: Figure, theme: Theme, series: Mapping[str, Mapping[int, float]]) -> None:
    """The size of the drift over training: each value faint, a moving mean solid.

    Args:
      series: {name: {step: value}}; values that a logarithm has no place for are left out.

    Raises:
      NothingToDrawError: no series has a positive value.
    """
    points = {name: np.array([p for p in values.items() if p[1] > 0]) for name, values in series.items()}
    points = {name: values for name, values in points.items() if len(values)}
    if not points:
        raise NothingToDrawError("no drift has been logged yet")
    axes = figure.subplots()
    for colour, (name, values) in zip(theme.cycle * len(points), points.items()):
        steps, sizes = values.T
        alone = len(steps) == 1
        axes.plot(steps, sizes, color=colour, alpha=0.3, linewidth=0.6 * theme.line, marker="o" if alone else None)
        axes.plot(steps, smoothed(sizes), color=colour, label=name)
    axes.set(xlabel="training step", ylabel="RMS drift (std. dev., log scale)", yscale="log")
    plain_numbers(axes.yaxis)
    axes.legend()
    title(figure, "Drift magnitude over training")


def smoothed(values: np.ndarray) -> np.ndarray:
    """Geometric moving mean over a twentieth of the values, at least three."""
    return np.exp(uniform_filter1d(np.log(values), max(3, len(values) // 20), mode="nearest"))


@picture(720, 480)
def temperature_drift(figure: Figure, theme: Theme, temperatures: np.ndarray, drift_rms: np.ndarray) -> None:
    """RMS of the raw field of each temperature: both arrays [t]."""
    if not len(temperatures):
        raise NothingToDrawError("the objective has no temperatures")
    axes = figure.subplots()
    bars = axes.bar(range(len(temperatures)), drift_rms, width=0.6, color=theme.expert)
    axes.set_xticks(range(len(temperatures)), [f"{tau:g}" for tau in temperatures])
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.margins(y=0.12)
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="temperature τ (mean distances)", ylabel="RMS drift (std. dev.)")
    title(figure, "Drift by temperature")


@picture(900, 720)
def sample_transport(
    figure: Figure, theme: Theme, samples: np.ndarray, drift: np.ndarray, target: np.ndarray, mask: np.ndarray
) -> None:
    """Each sample x joined to x + V, with the expert chunks, in the plane of all three; shapes as in ``plot_drift_field``."""
    x, v, y = flat(samples, mask), flat(drift, mask), flat(target, mask)
    plane: Plane = joint_plane(x, x + v, y)
    before, after, experts = plane.place(x), plane.place(x + v), plane.place(y)
    axes = figure.subplots()
    axes.set_aspect("equal", adjustable="datalim")
    gap = np.full((len(x), 1), np.nan)
    joined = [np.stack([before[:, i], after[:, i], gap[:, 0]], axis=1).ravel() for i in (0, 1)]
    axes.plot(*joined, color=theme.muted, linewidth=0.5 * theme.line, zorder=1)
    axes.scatter(*before.T, s=20, facecolors="none", edgecolors=theme.muted, label="sample x", zorder=2)
    axes.scatter(*after.T, s=14, color=theme.sample, linewidths=0, label="carried to x + V", zorder=3)
    axes.scatter(*experts.T, s=56, marker="D", color=theme.expert, label="expert", zorder=0.9)
    plane.label(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="upper right", ncols=3)
    title(figure, "Transport of the samples")
