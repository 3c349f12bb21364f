"""Every figure of a policy, by name: what it is drawn from, under which key WandB shows it, and how to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

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
    """

    name: str
    key: str
    title: str
    note: str
    source: Source
    size: tuple[int, int]
    draw: Callable[..., Figure | Iterator[np.ndarray]]
    film: bool = False


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


def _plot(name: str, title: str, note: str, function: Callable, arrays: Callable, source: Source = "snapshot") -> Plot:
    def draw(given, theme: Theme) -> Figure:
        return function(*arrays(given), theme=theme)

    return Plot(name, f"viz/{name}", title, note, source, function.size, draw)


def _film(s: FigureInputs, theme: Theme) -> Iterator[np.ndarray]:
    about = s.cameras, s.instruction, s.control_hz
    return film.trajectory_frames(s.frames, *_episode(s), *about, theme=theme)


_ALL = (
    _plot(
        "A1_drifting_field",
        "Drifting field",
        "Arrows are true to scale: they shrink to nothing as the samples settle on the experts.",
        drift_field.plot_drift_field,
        _network,
    ),
    _plot(
        "A2_drift_magnitude_trend",
        "Drift magnitude over training",
        "The primary sign of convergence: it falls, then levels off.",
        drift_field.drift_trend,
        lambda metrics: (drift_series(metrics),),
        "metrics",
    ),
    _plot(
        "A3_prediction_scatter",
        "Predicted against expert",
        "Points on the line are right; a flat cloud is a policy that answers the mean.",
        errors.prediction_scatter,
        _physical,
    ),
    _plot(
        "A4_per_dim_error_radar",
        "Error by dimension",
        "A spike is a dimension that is hard; at the dashed circle the policy knows no more than the mean.",
        errors.error_radar,
        _physical,
    ),
    _plot(
        "A5_temperature_loss",
        "Drift by temperature",
        "Low temperatures pull at details, high ones move samples between modes: the higher bar is what is still missing.",
        drift_field.temperature_drift,
        lambda s: (s.temperatures, s.drift_rms),
    ),
    _plot(
        "B1_action_distribution",
        "Distribution of actions",
        "The two histograms of each panel should cover each other.",
        sample_distribution.action_distribution,
        lambda s: (s.chunks, s.wanted, s.mask.any(-1)),
    ),
    _plot(
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
    _plot(
        "B4_trajectory_3d",
        "Held-out episode in space",
        "Each fan of samples should hug the expert's path; smooth ones are coherent.",
        trajectory_3d.trajectory,
        lambda s: (*_episode(s), s.episode_task),
    ),
    _plot(
        "C1_sample_transport",
        "Transport of the samples",
        "Filled dots are where the drift carries the hollow ones: towards the experts, and hardly any way once converged.",
        drift_field.sample_transport,
        _network,
    ),
    _plot(
        "C2_mode_coverage",
        "Coverage of modes",
        "Pairs of bars of equal height: no mode is lost and none made up.",
        sample_distribution.mode_coverage,
        lambda s: (s.samples, s.target, s.mask),
    ),
    _plot(
        "D1_sample_spread",
        "Spread beside error",
        "Near the line the spread tells the error; far below it the policy is sure of something wrong.",
        sample_distribution.sample_spread,
        lambda s: (s.samples, s.target, s.mask, s.task, s.tasks),
    ),
    _plot(
        "D2_success_over_training",
        "Success over training",
        "Intervals that overlap are no difference yet.",
        rollouts.success_over_training,
        lambda evaluated: (evaluated.success,),
        "evaluations",
    ),
    _plot(
        "D3_latency",
        "Latency",
        "What lies between the two histograms is transport and waiting; dashed lines are the slowest twentieth.",
        rollouts.latency,
        lambda evaluated: (evaluated.round_trip_ms, evaluated.infer_ms),
        "evaluations",
    ),
    _plot(
        "D4_attention",
        "Attention over the pictures",
        "Heat should lie on the gripper and on what the instruction names.",
        attention.attention_maps,
        lambda s: (s.frames, s.attention, s.episode_steps, s.cameras, s.instruction),
    ),
)
PLOTS: dict[str, Plot] = {plot.name: plot for plot in _ALL}
