"""How far answers are from the expert, per dimension: A3 scatter, A4 radar, B2 heat map over the chunk."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from drifting_vla_jax.figures.style import NothingToDrawError, Theme, annotate, picture, title
from drifting_vla_jax.figures.units import DIMENSIONS, UNITS, measured

_DRAWN = 3000  # points per panel; numbers are of all of them
_LEAST = np.array([0.1] * 3 + [0.5] * 3 + [0.01])  # length of a spoke, and margin of a panel: cm, degrees, share


@picture(1200, 640)
def prediction_scatter(
    figure: Figure, theme: Theme, chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray, position: np.ndarray
) -> None:
    """Every real step of every sample against the expert's, a panel per dimension.

    Args:
      chunks: [b g h 8]; wanted: [b h 8]; real: [b h]; position: [b 3], physical units.
    """
    predicted, expert = pairs(chunks, wanted, real, position)
    every = -(-len(expert) // _DRAWN)
    grid = figure.subplots(2, 4).ravel()
    for i, axes in enumerate(grid[: len(DIMENSIONS)]):
        x, y = expert[:, i], predicted[:, i]
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        pad = max(0.06 * (high - low), _LEAST[i])
        axes.plot([low, high], [low, high], color=theme.muted, linewidth=0.6 * theme.line)
        axes.plot(x[::every], y[::every], ".", color=theme.sample, markersize=3, alpha=0.5, rasterized=True)
        axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
        axes.set_title(f"{DIMENSIONS[i]} ({UNITS[i]})")
        axes.locator_params(nbins=5)
        annotate(axes, f"MAE {np.abs(y - x).mean():.3g}\nR {correlation(x, y)}")
    for axes in grid[3:7]:
        axes.set_xlabel("expert")
    for axes in grid[::4]:
        axes.set_ylabel("predicted")
    grid[-1].set_axis_off()
    text = "x y z: from where the\nend effector is now\n\nturn: rotation vector\nfrom the mean orientation\n\n"
    grid[-1].text(0, 1, f"{text}{len(expert):,} steps of all\nsamples, line: perfect", va="top", color=theme.muted)
    title(figure, "Predicted against expert, all steps of the chunk")


def pairs(
    chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and expert values of every real step of every sample, both [n 7]; see ``units.measured``.

    Raises:
      NothingToDrawError: no step is real.
    """
    if not real.any():
        raise NothingToDrawError("no step of the held-out chunks is real")
    predicted, expert = measured(chunks, wanted, position)
    expert = np.broadcast_to(expert[:, None], predicted.shape)
    kept = np.broadcast_to(real[:, None] > 0, predicted.shape[:-1])
    return predicted[kept], expert[kept]


def correlation(x: np.ndarray, y: np.ndarray) -> str:
    """Pearson's R, a dash where one of the two does not vary."""
    if min(np.ptp(x), np.ptp(y)) < 1e-6:
        return "-"
    return f"{np.corrcoef(x, y)[0, 1]:.2f}"


@picture(800, 700)
def error_radar(
    figure: Figure, theme: Theme, chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray, position: np.ndarray
) -> None:
    """Mean absolute error per dimension, in shares of what always answering the mean would cost; shapes as above."""
    predicted, expert = pairs(chunks, wanted, real, position)
    errors = np.abs(predicted - expert).mean(0)
    scale = np.maximum(np.abs(expert - expert.mean(0)).mean(0), _LEAST)
    angles = np.linspace(0, 2 * np.pi, len(errors), endpoint=False)
    round_, values = np.append(angles, angles[0]), np.append(errors / scale, errors[0] / scale[0])
    axes = figure.subplots(subplot_kw={"projection": "polar"})
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.plot(
        np.linspace(0, 2 * np.pi, 181),
        np.ones(181),
        color=theme.muted,
        linestyle="--",
        linewidth=0.7 * theme.line,
        label="answering the mean",
    )
    axes.fill(round_, values, color=theme.sample, alpha=0.25)
    axes.plot(round_, values, color=theme.sample, marker="o")
    names = zip(DIMENSIONS, errors, scale, UNITS)
    labels = [f"{name}\n{error:.2g} of {full:.2g}{_unit(unit)}" for name, error, full, unit in names]
    axes.set_xticks(angles, labels)
    axes.tick_params(axis="x", pad=26)
    figure.legend(loc="upper right")
    axes.set_rlabel_position(180 / len(errors))
    axes.set_ylim(0, max(1.1, 1.05 * values.max()))
    axes.spines["polar"].set_visible(False)
    title(figure, "Mean absolute error by dimension")


def _unit(unit: str) -> str:
    return unit if unit == "°" else f" {unit}"


@picture(960, 640)
def error_heatmap(
    figure: Figure, theme: Theme, chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray, position: np.ndarray
) -> None:
    """Mean absolute error per step of the chunk and dimension; each column has its own unit and colours; shapes as above."""
    errors = errors_by_step(chunks, wanted, real, position)
    most = np.nanmax(errors, axis=0)
    shades = errors / np.where(most > 0, most, 1.0)
    axes = figure.subplots()
    image = axes.imshow(shades, cmap=theme.heat, norm=Normalize(0, 1), aspect="auto")
    size = "medium" if len(errors) <= 12 else "small" if len(errors) <= 20 else "xx-small"
    if len(errors) <= 40:
        for (row, column), value in np.ndenumerate(errors):
            bright = np.mean(image.to_rgba(shades[row, column])[:3]) > 0.55
            colour = "black" if bright else "white"
            axes.text(column, row, _digits(value), ha="center", va="center", color=colour, fontsize=size)
    names = (*DIMENSIONS[:-1], "angle", DIMENSIONS[-1])
    units = (*UNITS[:-1], "°", UNITS[-1])
    axes.set_xticks(range(len(names)), [f"{name}\n({unit})" for name, unit in zip(names, units)])
    axes.set_yticks(range(0, len(errors), -(-len(errors) // 20)))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set(ylabel="step of the chunk", xlabel="mean absolute error; colours from 0 to each column's largest")
    title(figure, "Error by step of the chunk and dimension")


def errors_by_step(chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Mean absolute errors [h 8] in cm, degrees (about x, y, z and in all) and opening; NaN where no step is real."""
    predicted, expert = measured(chunks, wanted, position)
    errors = np.abs(predicted - expert[:, None])
    angle = np.linalg.norm(errors[..., 3:6], axis=-1, keepdims=True)
    errors = np.concatenate([errors[..., :6], angle, errors[..., 6:]], axis=-1).mean(1)
    kept = (real > 0)[..., None]
    if not kept.any():
        raise NothingToDrawError("no step of the held-out chunks is real")
    count = kept.sum(0)
    return np.where(count > 0, np.sum(errors * kept, axis=0) / np.maximum(count, 1), np.nan)


def _digits(value: float) -> str:
    """Three significant digits, never a power of ten."""
    return (
        "-"
        if np.isnan(value)
        else f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
    )
