"""The study's pictures: arrays in, PNG files out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from drifting_vla_jax.studies.drifting.runs import Outcome
from drifting_vla_jax.studies.drifting.toy_2d import Drifted

DATA, SAMPLES, ARROWS = "#b8bcc4", "#0072b2", "#d55e00"  # grey, blue, vermilion: told apart by any eyes


def toys(pairs: Sequence[tuple[Drifted, Drifted]], path: Path) -> None:
    """A row per toy: the start with the field's arrows, both ends, both curves of the energy distance."""
    figure, axes = plt.subplots(len(pairs), 4, figsize=(13, 3 * len(pairs)), layout="constrained")
    for row, (fixed, annealed) in zip(axes, pairs, strict=True):
        shown = ((row[0], fixed.before, SAMPLES), (row[1], fixed.after, SAMPLES), (row[2], annealed.after, ARROWS))
        for axis, samples, color in shown:
            axis.scatter(*fixed.data.T, s=5, color=DATA)
            axis.scatter(*samples.T, s=5, color=color)
            axis.set_aspect("equal", "datalim")
        some = slice(0, 48)
        arrows = dict(angles="xy", scale_units="xy", scale=1, width=4e-3, color="black")
        row[0].quiver(*annealed.before[some].T, *annealed.drift[some].T, **arrows)
        row[0].set_title(f"{fixed.toy.name}: start", fontsize=9)
        row[1].set_title(f"fixed, after {fixed.step[-1]} steps", fontsize=9)
        row[2].set_title(f"annealed, after {fixed.step[-1]} steps", fontsize=9)
        for result, color, name in ((fixed, SAMPLES, "fixed"), (annealed, ARROWS, "annealed")):
            row[3].semilogy(result.step, np.maximum(result.energy_distance, 1e-4), color=color, label=name)
        row[3].set(xlabel="step", ylabel="energy distance")
        row[3].legend(fontsize=8)
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
