"""What validation measures at drawn chunks: a table of metrics, each a function of ``Drawn``.

A metric from outside the package is named by its import path in ``config.train.metrics``, for example
``("my_lab.my_file:SMOOTHNESS",)``; there ``SMOOTHNESS`` is a ``Metric``. It is then logged as val/<its name>.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from drifting_vla_jax.core import registry
from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.core.rotation import angle_degrees
from drifting_vla_jax.core.sample_statistics import expert_spread, sample_statistics

NETWORK = "network units"  # standard deviations of the data


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Chunks that a policy drew for b held-out observations, and the expert's.

    Attributes:
      samples: float [b, g, h, a], network units.
      target, mask: float [b, h, a], the expert's chunk and 1 where its entries count.
      chunks: float [b, g, h, k], the samples as a robot gets them: metres, quaternions, openings or joints.
      wanted: float [b, h, k], the expert's chunk likewise.
      layout: what the k numbers are.
    """

    samples: np.ndarray
    target: np.ndarray
    mask: np.ndarray
    chunks: np.ndarray
    wanted: np.ndarray
    layout: ActionLayout

    @functools.cached_property
    def statistics(self) -> dict[str, float]:
        """See ``core.sample_statistics``."""
        return {name: float(value) for name, value in sample_statistics(self.samples, self.target, self.mask).items()}

    def mean_over_parts(self, kind: str, error: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float | None:
        """Mean of ``error(drawn, wanted)`` [b, g, h] over steps that count and parts of this kind; None: there is none."""
        steps = np.broadcast_to((self.mask.max(-1) > 0)[:, None], self.chunks.shape[:3])
        wanted = self.wanted[:, None]
        parts = [part.boundary for part in self.layout.parts if part.kind == kind]
        found = [error(self.chunks[..., part], wanted[..., part])[steps].mean() for part in parts]
        return float(np.mean(found)) if found else None


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number of a validation.

    Attributes:
      name: val/<name> in the log; no slash.
      unit: "" if it has none.
      text: what it says, a sentence for a reader of the run's page.
      compute: its value; None where it does not apply to the layout.
    """

    name: str
    unit: str
    text: str
    compute: Callable[[Drawn], float | None]


def _spread_ratio(drawn: Drawn) -> float:
    experts = expert_spread(drawn.target, drawn.mask)
    return drawn.statistics["sample_spread"] / max(1.0 if experts is None else experts, 1e-6)


def _energy_score(drawn: Drawn) -> float:
    """Per root of the entries that count."""
    samples, target, mask = drawn.samples, drawn.target, drawn.mask
    g = samples.shape[1]
    to_expert = np.sqrt((np.square(samples - target[:, None]) * mask[:, None]).sum((2, 3))).mean(1)
    pairs = np.square(samples[:, :, None] - samples[:, None]) * mask[:, None, None]
    to_samples = np.sqrt(pairs.sum((3, 4))).sum((1, 2)) / max(g * (g - 1), 1)
    entries = np.sqrt(np.maximum(mask.sum((1, 2)), 1.0))
    return float(((to_expert - to_samples / 2) / entries).mean())


METRICS = (
    Metric(
        "centroid_error",
        NETWORK,
        "RMS distance from the mean of the samples to the expert. Falls to what the observation leaves undetermined",
        lambda drawn: drawn.statistics["centroid_error"],
    ),
    Metric(
        "sample_spread",
        NETWORK,
        "RMS distance of the samples to their mean. Falls with the centroid error and stays of its size; far below it the "
        "policy is overconfident, far above it the samples have not settled",
        lambda drawn: drawn.statistics["sample_spread"],
    ),
    Metric(
        "collapsed_share",
        "share",
        "Fraction of observations whose samples agree whatever the noise: 0 in a healthy run, 1 for regression",
        lambda drawn: drawn.statistics["collapsed_share"],
    ),
    Metric(
        "spread_ratio",
        "",
        "Sample spread over the distance between the experts of the most similar chunks. Settles near or below 1; if it keeps "
        "falling while the centroid error does not, the policy is overconfident",
        _spread_ratio,
    ),
    Metric(
        "energy_score",
        NETWORK,
        "E|x - y| - E|x - x'| / 2 over samples x and the expert y. A proper score: lowest for the right distribution",
        _energy_score,
    ),
    Metric(
        "position_error_cm",
        "cm",
        "Distance of a single sample's position to the expert's, mean over the chunk",
        lambda drawn: drawn.mean_over_parts("position", lambda a, b: 100.0 * np.linalg.norm(a - b, axis=-1)),
    ),
    Metric(
        "rotation_error_deg",
        "degrees",
        "Angle between a single sample's orientation and the expert's",
        lambda drawn: drawn.mean_over_parts("rotation", angle_degrees),
    ),
    Metric(
        "gripper_accuracy",
        "share",
        "Fraction of targets whose gripper is on the right side of one half",
        lambda drawn: drawn.mean_over_parts("gripper", lambda a, b: ((a > 0.5) == (b > 0.5)).mean(-1)),
    ),
    Metric(
        "joint_error",
        "",
        "Mean absolute error of joints, in their own unit",
        lambda drawn: drawn.mean_over_parts("joints", lambda a, b: np.abs(a - b).mean(-1)),
    ),
)


def validation_metrics(paths: Sequence[str] = ()) -> tuple[Metric, ...]:
    """The metrics of the table and those of ``config.train.metrics``.

    Raises:
      PluginError: a path leads to no metric, or to one whose name is taken.
    """
    found = list(METRICS)
    for path in paths:
        metric = registry.load("metric", {}, path)
        if not isinstance(metric, Metric):
            raise registry.PluginError(f"metric {path!r} is {type(metric).__name__}; expected a {__name__}.Metric")
        if metric.name in {other.name for other in found} or "/" in metric.name:
            raise registry.PluginError(
                f"metric {path!r} is called {metric.name!r}; expected a name of its own, without a slash"
            )
        found.append(metric)
    return tuple(found)


def measure(drawn: Drawn, metrics: Sequence[Metric]) -> dict[str, float]:
    """{name: value} of every metric that applies."""
    values = {metric.name: metric.compute(drawn) for metric in metrics}
    return {name: float(value) for name, value in values.items() if value is not None}
