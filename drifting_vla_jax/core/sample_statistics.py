"""Whether a generative policy learns, which its loss cannot say: where its samples lie, and how far apart.

Values are in network units (standard deviations of the data), over the entries that the mask keeps. Arrays are NumPy's or JAX's.

    samples  [b g h a]   g chunks of each observation
    target   [b h a]     the expert's
    mask     [b h a]     1 where an entry counts
"""

from __future__ import annotations

from typing import Any

import numpy as np

COLLAPSED = 0.01  # network units


def spread_and_error(samples: Any, target: Any, mask: Any) -> tuple[Any, Any]:
    """Root mean squares of each observation, both [b]: of its samples around their mean, and of that mean to the target."""
    deviation, offset = _squares(samples, target, mask)
    count = mask.sum((1, 2)).clip(1.0)
    return (deviation.sum((1, 2)) / count) ** 0.5, (offset.sum((1, 2)) / count) ** 0.5


def sample_statistics(samples: Any, target: Any, mask: Any) -> dict[str, Any]:
    """RMS over all entries that count, and a share of the observations.

    centroid_error   from the samples' mean to the expert. Falls like a regression loss, to what the observation leaves open: 0
                     where there is one way of doing things, half the distance where there are two.
    sample_spread    from the samples to their mean. Starts near 1, falls with the centroid error and stays of its size; far below
                     it the policy is overconfident, far above it the samples have not settled.
    collapsed_share  observations whose samples are closer together than 1% of the data's standard deviation, whatever the noise.
                     0 in a healthy run, 1 for regression.
    """
    deviation, offset = _squares(samples, target, mask)
    count = mask.sum().clip(1.0)
    spread, _ = spread_and_error(samples, target, mask)
    return {
        "centroid_error": (offset.sum() / count) ** 0.5,
        "sample_spread": (deviation.sum() / count) ** 0.5,
        "collapsed_share": (spread < COLLAPSED).mean(),
    }


def expert_spread(target: np.ndarray, mask: np.ndarray) -> float | None:
    """RMS deviation of an expert chunk and the one most like it from their mean; None with fewer than two."""
    if len(target) < 2:
        return None
    both = mask[:, None] * mask[None]
    square = (np.square(target[:, None] - target[None]) * both).sum((2, 3)) / np.maximum(both.sum((2, 3)), 1.0)
    np.fill_diagonal(square, np.inf)
    return float(np.sqrt(square.min(1).mean() / 2))


def _squares(samples: Any, target: Any, mask: Any) -> tuple[Any, Any]:
    """Squared deviations of the samples from their mean, on average over them, and of that mean from the target: [b h a]."""
    centroid = samples.mean(1)
    return ((samples - centroid[:, None]) ** 2).mean(1) * mask, (centroid - target) ** 2 * mask
