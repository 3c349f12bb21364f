"""How figures look, and how they come onto disk.

A figure has one size in pixels whatever its theme: a step slider through its files never jumps. Drawing uses matplotlib's
Agg canvas directly and leaves matplotlib's global settings as they were.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

DPI = 100  # pixels per inch at scale 1
SCALES = (1, 2)
# Without them two drawings of the same numbers would differ as files.
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}

# Okabe and Ito's eight colours, told apart by readers with any colour vision.
_BLUE, _ORANGE, _GREEN, _VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_SKY, _PURPLE, _YELLOW = "#56B4E9", "#CC79A7", "#F0E442"


class NothingToDrawError(ValueError):
    """The numbers that a figure shows are not there; the message says which."""


@dataclass(frozen=True)
class Theme:
    """Colours by what they stand for, and type.

    Attributes:
      expert, sample: what demonstrations and what the policy's answers are drawn in.
      accent: the drift, and whatever a figure points at.
      muted: what is there for reference.
      cycle: for tasks and series.
      ramp: three colours from nothing to much.
      size: of the type, points; ``line``: widths, points.
    """

    name: str
    background: str = "#ffffff"
    ink: str = "#1c2128"
    muted: str = "#6b7280"
    grid: str = "#e3e6ea"
    expert: str = _BLUE
    sample: str = _ORANGE
    accent: str = "#8e2f7c"
    cycle: tuple[str, ...] = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _VERMILION)
    ramp: tuple[str, str, str] = ("#fdfdfb", "#f0a85c", "#8a2a04")
    family: str = "sans-serif"
    size: float = 10.5
    line: float = 1.6

    @property
    def heat(self) -> Colormap:
        return LinearSegmentedColormap.from_list(self.name, self.ramp)

    @property
    def settings(self) -> dict:
        """As matplotlib's rcParams."""
        ink = dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor"), self.ink)
        ticks = dict.fromkeys(("xtick.color", "ytick.color", "axes.edgecolor"), self.muted)
        ground = dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor"), self.background)
        small = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 0.88 * self.size)
        panes = dict.fromkeys((f"axes3d.{axis}axis.panecolor" for axis in "xyz"), self.background)
        return {
            **(ink | ticks | ground | small | panes),
            "text.parse_math": False,  # instructions are anybody's text
            "font.family": self.family,
            "font.size": self.size,
            "figure.titlesize": 1.2 * self.size,
            "figure.titleweight": "bold",
            "axes.titlesize": self.size,
            "axes.titlelocation": "left",
            "axes.labelsize": 0.95 * self.size,
            "axes.linewidth": 0.5 * self.line,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": f"cycler('color', {list(self.cycle)})",
            "grid.color": self.grid,
            "grid.linewidth": 0.4 * self.line,
            "lines.linewidth": self.line,
            "lines.markersize": 3 * self.line,
            "figure.constrained_layout.w_pad": 0.1,
            "figure.constrained_layout.h_pad": 0.1,
            "legend.frameon": False,
            "legend.labelcolor": self.ink,
            "hatch.linewidth": 0.5 * self.line,
        }


THEMES = {
    theme.name: theme
    for theme in (
        Theme("light"),
        Theme(
            "dark",
            background="#14171c",
            ink="#e8eaed",
            muted="#9aa2ad",
            grid="#2b3038",
            expert=_SKY,
            sample=_ORANGE,
            accent="#e58fc4",
            cycle=(_SKY, _ORANGE, "#2fc39a", _PURPLE, _YELLOW, "#ff7a45"),
            ramp=("#1d2129", "#b4561c", "#ffe29a"),
        ),
        Theme(
            "paper",
            ink="#000000",
            muted="#444444",
            grid="#ececec",
            ramp=("#ffffff", "#8fbbd9", "#08306b"),
            family="serif",
            size=9.5,
            line=1.0,
        ),
        Theme("presentation", size=14.0, line=2.6, muted="#555c66"),
    )
}


def picture(width: int, height: int) -> Callable:
    """Makes ``draw(figure, theme, *arrays)`` into ``draw(*arrays, theme=THEMES["light"]) -> Figure`` of so many pixels.

    The size stays readable as ``draw.size``.
    """

    def decorate(draw: Callable[..., None]) -> Callable[..., Figure]:
        @functools.wraps(draw)
        def drawn(*arrays, theme: Theme = THEMES["light"]) -> Figure:
            with style.context(theme.settings, after_reset=True):
                figure = blank(width, height)
                draw(figure, theme, *arrays)
                figure.get_layout_engine().execute(figure)  # once: its places are shares of the figure at every scale
                figure.set_layout_engine(None)
            return figure

        drawn.size = (width, height)
        return drawn

    return decorate


def blank(width: int, height: int, layout: str | None = "constrained") -> Figure:
    """An empty figure of so many pixels on an Agg canvas, in the settings that are in force."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def title(figure: Figure, text: str) -> None:
    """What the whole figure shows, at its upper left."""
    figure.suptitle(text, x=0.01, ha="left")


def annotate(axes: Axes, text: str, x: float = 0.03, y: float = 0.97) -> None:
    """A few numbers inside a panel; x and y in shares of it, the text grows away from the nearer edges."""
    sides = {"ha": "left" if x < 0.5 else "right", "va": "top" if y > 0.5 else "bottom"}
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.75, "pad": 1.5}
    axes.text(x, y, text, transform=axes.transAxes, fontsize="small", bbox=ground, zorder=9, **sides)


def plain_numbers(axis: Axis) -> None:
    """A logarithmic axis, once all is drawn on it: ticks written 0.002 rather than as a power of ten."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)) if high > 4 * low else MaxNLocator(5))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: str | Path, scale: int = 1) -> None:
    """Writes a .png of exactly the figure's pixels times ``scale``, or a .pdf or .svg; the file is there whole or not at all.

    Raises:
      ValueError: another suffix or scale.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in _METADATA:
        raise ValueError(f"a figure cannot be written as {path.name}; its name ends in one of .{', .'.join(_METADATA)}")
    if scale not in SCALES:
        raise ValueError(f"scale is {scale}; expected one of {', '.join(map(str, SCALES))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with style.context({"svg.hashsalt": path.stem, "pdf.fonttype": 42}, after_reset=True):
            figure.savefig(partial, format=kind, dpi=DPI * scale, metadata=_METADATA[kind])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
