"""One held-out episode in space: B4 its path with the samples fanned out along it, and the axes that B3 films too."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from drifting_vla_jax.figures.style import Theme, picture, title

_MOMENTS = 6  # at which the samples are drawn


@picture(900, 800)
def trajectory(
    figure: Figure,
    theme: Theme,
    chunks: np.ndarray,
    wanted: np.ndarray,
    real: np.ndarray,
    position: np.ndarray,
    steps: np.ndarray,
    task: str,
) -> None:
    """The expert's path through an episode, and all samples at several moments of it.

    Args:
      chunks: [n g h 8]; wanted: [n h 8]; real: [n h]; position: [n 3], m. steps: [n] control steps.
    """
    answers, expert, here = in_centimetres(chunks, wanted, real, position)
    axes = figure.add_subplot(projection="3d")
    space(axes, np.concatenate([answers.reshape(-1, 3), expert.reshape(-1, 3), here]))
    axes.plot(*here.T, color=theme.expert, linewidth=1.6 * theme.line, label="expert")
    moments = np.unique(np.linspace(0, len(here) - 1, _MOMENTS).round().astype(int))
    axes.plot(*fan(answers[moments]).T, color=theme.sample, alpha=0.5, linewidth=0.8 * theme.line, label="samples")
    axes.plot(*here[moments].T, "o", color=theme.ink, label="asked here (control step)")
    for i in moments:
        axes.text(*here[i], f"  {steps[i]}", fontsize="small", weight="bold", zorder=20)
    axes.legend(loc="upper left")
    title(figure, f"Held-out episode of {task}, samples along it")


def in_centimetres(
    chunks: np.ndarray, wanted: np.ndarray, real: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths [n g 1+h 3] and [n 1+h 3] that start where the end effector is [n 3], NaN past the episode's end; in cm."""
    here = 100.0 * position
    answers, expert = 100.0 * chunks[..., :3], 100.0 * wanted[..., :3]
    expert = np.where(real[..., None] > 0, expert, np.nan)
    answers = np.where(real[:, None, :, None] > 0, answers, np.nan)
    start = np.broadcast_to(here[:, None, None], (*answers.shape[:2], 1, 3))
    return np.concatenate([start, answers], axis=2), np.concatenate([here[:, None], expert], axis=1), here


def fan(paths: np.ndarray) -> np.ndarray:
    """Paths [..., k 3] as one line [m 3] that lifts the pen between them."""
    apart = np.full((*paths.shape[:-2], 1, 3), np.nan)
    return np.concatenate([paths, apart], axis=-2).reshape(-1, 3)


def space(axes: Axes3D, points: np.ndarray) -> None:
    """Axes around the points [m 3], a centimetre as long in every direction."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    middle, size = (low + high) / 2, high - low
    size = np.maximum(1.08 * size, max(0.35 * size.max(), 1.0))
    for axis, at, extent in zip("xyz", middle, size):
        axes.set(**{f"{axis}lim": (at - extent / 2, at + extent / 2), f"{axis}label": f"{axis} (cm)"})
        axes.locator_params(axis=axis, nbins=5)
    axes.set_box_aspect(tuple(size), zoom=1.05)
    axes.view_init(elev=25, azim=-60)
