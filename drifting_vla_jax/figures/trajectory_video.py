"""B3: one held-out episode as a film: what the cameras see beside the path so far, the expert's next steps and the samples.

The axes are drawn once; a frame redraws what moves.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from drifting_vla_jax.figures.style import THEMES, Theme, blank
from drifting_vla_jax.figures.trajectory_3d import fan, in_centimetres, space

SIZE = (1280, 720)  # pixels, even as yuv420p needs them
_STRIP = 70  # pixels of the caption


def trajectory_frames(
    frames: np.ndarray,
    chunks: np.ndarray,
    wanted: np.ndarray,
    real: np.ndarray,
    position: np.ndarray,
    steps: np.ndarray,
    cameras: Sequence[str],
    instruction: str,
    control_hz: float,
    theme: Theme = THEMES["light"],
) -> Iterator[np.ndarray]:
    """A uint8 picture [720 1280 3] per time step.

    Args:
      frames: [n v H W 3] uint8. chunks: [n g h 8]; wanted: [n h 8]; real: [n h]; position: [n 3], m.
      steps: [n] control steps, of which ``control_hz`` are a second.
    """
    answers, expert, here = in_centimetres(chunks, wanted, real, position)
    with style.context(theme.settings, after_reset=True):
        figure = blank(*SIZE, layout=None)
        screens, names, edge = _screens(figure, frames[0], cameras)
        lines = _lines(figure, theme, edge, np.concatenate([fan(answers), fan(expert)]))
        clock = _caption(figure, theme, instruction)
        figure.canvas.draw()
        still = figure.canvas.copy_from_bbox(figure.bbox)
    for i, step in enumerate(steps):
        for screen, view in zip(screens, frames[i]):
            screen.set_data(view)
        for line, points in zip(lines, (here[: i + 1], fan(answers[i, 1:]), expert[i], answers[i, 0], here[[i]])):
            line.set_data_3d(*points.T)
        clock.set_text(f"control step {step}    {step / control_hz:.1f} s")
        figure.canvas.restore_region(still)
        for artist in (*screens, *names, *lines, clock):
            figure.draw_artist(artist)
        yield np.array(figure.canvas.buffer_rgba())[..., :3]


def _screens(figure: Figure, pictures: np.ndarray, cameras: Sequence[str]) -> tuple[list[Artist], list[Artist], float]:
    """Images in columns of one, two or three at the left, the cameras' names on them, and where the last column ends."""
    width, height = SIZE
    rows = 1 if len(cameras) == 1 else 2 if len(cameras) <= 4 else 3
    side = (height - _STRIP) / rows
    screens, names = [], []
    ground = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2.5}
    for i, (picture, name) in enumerate(zip(pictures, cameras, strict=True)):
        left, bottom = i // rows * side, _STRIP + (rows - 1 - i % rows) * side
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        axes.set_axis_off()
        screens.append(axes.imshow(picture, animated=True))
        where = {"va": "top", "transform": axes.transAxes, "animated": True}
        names.append(axes.text(0.02, 0.97, name, color="white", bbox=ground, **where))
    return screens, names, -(-len(cameras) // rows) * side / width


def _lines(figure: Figure, theme: Theme, edge: float, points: np.ndarray) -> list[Artist]:
    """The empty lines of the path so far, the other samples, the expert's chunk, the first sample, and the dot that moves."""
    bottom = _STRIP / SIZE[1]
    axes = figure.add_axes((edge + 0.02, bottom, 0.96 - edge, 0.98 - bottom), projection="3d")
    space(axes, points)
    looks = (
        {"color": theme.muted, "label": "path so far"},
        {"color": theme.sample, "alpha": 0.35, "linewidth": 0.8 * theme.line, "label": "other samples"},
        {"color": theme.expert, "linewidth": 1.8 * theme.line, "label": "expert, next steps"},
        {"color": theme.sample, "linewidth": 1.8 * theme.line, "label": "first sample"},
        {"color": theme.ink, "marker": "o"},
    )
    lines = [axes.plot([], [], [], animated=True, **look)[0] for look in looks]
    axes.legend(loc="upper left")
    return lines


def _caption(figure: Figure, theme: Theme, instruction: str) -> Artist:
    """The instruction, and the empty text of the clock."""
    middle = _STRIP / SIZE[1] / 2
    words = textwrap.shorten(instruction, 70, placeholder=" …")
    figure.text(0.015, middle, words, fontsize="x-large", va="center")
    return figure.text(0.985, middle, "", color=theme.muted, va="center", ha="right", animated=True)
