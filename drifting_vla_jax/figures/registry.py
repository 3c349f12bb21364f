"""Every figure of a policy, by name: what it is drawn from, under which key WandB shows it, and how to read it.

A figure from outside the package is named by its import path in ``config.train.figures``, for example
``("my_lab.my_file:ERRORS",)``; there ``ERRORS`` is a ``Plot``, which ``make_plot`` makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from drifting_vla_jax.core.registry import PluginError, load
from drifting_vla_jax.figures import attention, drift_field, errors, sample_distribution, trajectory_3d
from drifting_vla_jax.figures import evaluations as rollouts
from drifting_vla_jax.figures import trajectory_video as film
from drifting_vla_jax.figures.inputs import FigureInputs
from drifting_vla_jax.figures.style import Theme

Source = str  # "snapshot": a Snapshot; "metrics": {name: {step: value}}; "evaluations": rollouts.Evaluated


@dataclass(frozen=True)
class Plot:
    """A figure, or a film, of one source.

    Attributes:
      name: of its folder. key: WandB's. title: what it is. note: how to read it, one sentence.
      source: what ``draw`` takes, see ``Source``. size: pixels at scale 1, width first.
      draw: (source, theme) -> a figure; for a ``film`` its frames.
      every: training steps between drawings, of a figure from outside; ``config.figures`` has those of the others.
    """

    name: str
    key: str
    title: str
    note: str
    source: Source
    size: tuple[int, int]
    draw: Callable[..., Figure | Iterator[np.ndarray]]
    film: bool = False
    every: int = 500


def drift_series(metrics: dict[str, dict[int, float]]) -> dict[str, dict[int, float]]:
    """The metrics that say how large the drift is; of a run older than them the root of each temperature's square."""
    named = {name: metrics[name] for name in ("train/lambda_V", "val/lambda_V") if name in metrics}
    squares = {name: points for name, points in metrics.items() if name.startswith("train/drift_sq/")}
    return named or {
        f"τ = {name.rpartition('/')[2]}": {step: value**0.5 for step, value in points.items()}
        for name, points in squares.items()
    }


def _physical(s: FigureInputs) -> tuple[np.ndarray, ...]:
    return s.chunks, s.wanted, s.mask.any(-1), s.position


def _network(s: FigureInputs) -> tuple[np.ndarray, ...]:
    return s.samples, s.drift, s.target, s.mask


def _episode(s: FigureInputs) -> tuple[np.ndarray, ...]:
    return s.episode_chunks, s.episode_wanted, s.episode_mask, s.episode_position, s.episode_steps


def make_plot(
    name: str,
    title: str,
    note: str,
    function: Callable,
    arrays: Callable,
    source: Source = "snapshot",
    every: int = 500,
) -> Plot:
    """A figure that ``function`` draws, made by ``figures.style.picture``; ``arrays``: source -> its arguments, a tuple."""

    def draw(given, theme: Theme) -> Figure:
        return function(*arrays(given), theme=theme)

    return Plot(name, f"viz/{name}", title, note, source, function.size, draw, every=every)


def _film(s: FigureInputs, theme: Theme) -> Iterator[np.ndarray]:
    about = s.cameras, s.instruction, s.control_hz
    return film.trajectory_frames(s.frames, *_episode(s), *about, theme=theme)


_ALL = (
    make_plot(
        "A1_drifting_field",
        "Drifting field",
        "Arrows are true to scale: they shrink to nothing as the samples settle on the experts.",
        drift_field.plot_drift_field,
        _network,
    ),
    make_plot(
        "A2_drift_magnitude_trend",
        "Drift magnitude over training",
        "The primary sign of convergence: it falls, then levels off.",
        drift_field.drift_trend,
        lambda metrics: (drift_series(metrics),),
        "metrics",
    ),
    make_plot(
        "A3_prediction_scatter",
        "Predicted against expert",
        "Points on the line are right; a flat cloud is a policy that answers the mean.",
        errors.prediction_scatter,
        _physical,
    ),
    make_plot(
        "A4_per_dim_error_radar",
        "Error by dimension",
        "A spike is a dimension that is hard; at the dashed circle the policy knows no more than the mean.",
        errors.error_radar,
        _physical,
    ),
    make_plot(
        "A5_temperature_loss",
        "Drift by temperature",
        "Low temperatures pull at details, high ones move samples between modes: the higher bar is what is still missing.",
        drift_field.temperature_drift,
        lambda s: (s.temperatures, s.drift_rms),
    ),
    make_plot(
        "B1_action_distribution",
        "Distribution of actions",
        "The two histograms of each panel should cover each other.",
        sample_distribution.action_distribution,
        lambda s: (s.chunks, s.wanted, s.mask.any(-1)),
    ),
    make_plot(
        "B2_action_error_heatmap",
        "Error by step and dimension",
        "Strong colour is large error; errors that grow downwards are those of steps further ahead.",
        errors.error_heatmap,
        _physical,
    ),
    Plot(
        "B3_trajectory_video",
        "eval/trajectory_video",
        "Held-out episode, filmed",
        "The samples should leave the dot along the expert's next steps and fan out only where experts differ.",
        "snapshot",
        film.SIZE,
        _film,
        film=True,
    ),
    make_plot(
        "B4_trajectory_3d",
        "Held-out episode in space",
        "Each fan of samples should hug the expert's path; smooth ones are coherent.",
        trajectory_3d.trajectory,
        lambda s: (*_episode(s), s.episode_task),
    ),
    make_plot(
        "C1_sample_transport",
        "Transport of the samples",
        "Filled dots are where the drift carries the hollow ones: towards the experts, and hardly any way once converged.",
        drift_field.sample_transport,
        _network,
    ),
    make_plot(
        "C2_mode_coverage",
        "Coverage of modes",
        "Pairs of bars of equal height: no mode is lost and none made up.",
        sample_distribution.mode_coverage,
        lambda s: (s.samples, s.target, s.mask),
    ),
    make_plot(
        "D1_sample_spread",
        "Spread beside error",
        "Near the line the spread tells the error; far below it the policy is sure of something wrong.",
        sample_distribution.sample_spread,
        lambda s: (s.samples, s.target, s.mask, s.task, s.tasks),
    ),
    make_plot(
        "D2_success_over_training",
        "Success over training",
        "Intervals that overlap are no difference yet.",
        rollouts.success_over_training,
        lambda evaluated: (evaluated.success,),
        "evaluations",
    ),
    make_plot(
        "D3_latency",
        "Latency",
        "What lies between the two histograms is transport and waiting; dashed lines are the slowest twentieth.",
        rollouts.latency,
        lambda evaluated: (evaluated.round_trip_ms, evaluated.infer_ms),
        "evaluations",
    ),
    make_plot(
        "D4_attention",
        "Attention over the pictures",
        "Heat should lie on the gripper and on what the instruction names.",
        attention.attention_maps,
        lambda s: (s.frames, s.attention, s.episode_steps, s.cameras, s.instruction),
    ),
)
PLOTS: dict[str, Plot] = {plot.name: plot for plot in _ALL}


def find_plot(name: str) -> Plot:
    """The figure of this name or import path.

    Raises:
      PluginError: there is none, or its name cannot be that of a folder of its own.
    """
    if name in PLOTS:
        return PLOTS[name]
    plot = load("figure", dict.fromkeys(PLOTS, ""), name)
    if not isinstance(plot, Plot):
        raise PluginError(f"figure {name!r} is {type(plot).__name__}; expected a {__name__}.Plot")
    if plot.name in PLOTS or plot.name == "snapshots" or not re.fullmatch(r"\w+", plot.name):
        raise PluginError(
            f"figure {name!r} is called {plot.name!r}; expected a name of its own, of letters, digits and underscores"
        )
    if plot.every < 1:
        raise PluginError(f"figure {name!r} is drawn every {plot.every} steps; expected at least 1")
    return plot


def periods(figures: Mapping[str, int], paths: Sequence[str]) -> dict[str, int]:
    """{name or import path: steps between drawings} of the figures that are on.

    Args:
      figures: ``config.figures``. paths: ``config.train.figures``.

    Raises:
      PluginError: a path leads to no figure, or to one whose name is taken.
    """
    plots = {path: find_plot(path) for path in paths}
    names = [plot.name for plot in plots.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise PluginError(f"config.train.figures has several figures called {', '.join(sorted(twice))}")
    return {name: figures[name] for name in PLOTS if figures[name]} | {path: p.every for path, p in plots.items()}
