"""The study's pictures: arrays in, PNG files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from drifting_vla_jax.objectives.study.toys import Drifted
from drifting_vla_jax.objectives.study.trials import Outcome

DATA, SAMPLES, ARROWS = "#b8bcc4", "#0072b2", "#d55e00"  # grey, blue, vermilion: told apart by any eyes


def toys(results: Sequence[Drifted], path: Path) -> None:
    """A row per toy: the start with the field's arrows, the end, the energy distance on the way."""
    figure, axes = plt.subplots(len(results), 3, figsize=(10, 3 * len(results)), layout="constrained")
    for row, result in zip(axes, results, strict=True):
        for axis, samples in ((row[0], result.before), (row[1], result.after)):
            axis.scatter(*result.data.T, s=5, color=DATA)
            axis.scatter(*samples.T, s=5, color=SAMPLES)
            axis.set_aspect("equal", "datalim")
        some = slice(0, 48)
        row[0].quiver(
            *result.before[some].T,
            *result.drift[some].T,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=4e-3,
            color=ARROWS,
        )
        row[0].set_title(f"{result.toy.name}: start, first drift", fontsize=9)
        row[1].set_title(f"after {result.step[-1]} steps", fontsize=9)
        row[2].semilogy(result.step, np.maximum(result.energy_distance, 1e-4), color=SAMPLES)
        row[2].set(xlabel="step", ylabel="energy distance")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def ways(outcomes: Sequence[Outcome], truth: np.ndarray, path: Path) -> None:
    """64 samples of one observation per way of sampling, over the expert's; the two most telling dimensions."""
    panels = [(outcome, name) for outcome in outcomes for name in outcome.drawn]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3 * len(panels), 3.2), sharex=True, sharey=True, layout="constrained"
    )
    flat = truth.reshape(-1, truth.shape[-1])
    first, second = np.argsort(-flat.var(0))[:2]
    for axis, (outcome, name) in zip(axes, panels, strict=True):
        for chunk in truth:
            axis.plot(chunk[:, first], chunk[:, second], color=DATA, lw=0.6)
        for chunk in outcome.drawn[name]:
            axis.plot(chunk[:, first], chunk[:, second], color=SAMPLES, lw=0.5, alpha=0.6)
        axis.set_title(f"{outcome.trial.objective}, {name}", fontsize=9)
        axis.set_xlabel(f"dimension {first}")
    axes[0].set_ylabel(f"dimension {second}")
    figure.savefig(path, dpi=90)
    plt.close(figure)
