"""Statistics as LeRobot keeps them: of each episode, and of all, joined from those of the episodes as LeRobot joins them.

min, max, mean, std, q01, q10, q50, q90, q99   [k] for numbers; [3, 1, 1] for pictures, of 0 .. 1, some of them
count                                          [1] rows, or pictures that were looked at
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PICTURES = 32  # of an episode, at most


def sample(count: int) -> np.ndarray:
    """Which of ``count`` pictures are looked at: the first, the last, and others between them."""
    return np.unique(np.linspace(0, count - 1, min(count, PICTURES)).round().astype(int))


def of_numbers(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of [t, k] or [t]."""
    values = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return found | dict(zip(QUANTILES, quantiles)) | {"count": np.array([len(values)])}


def of_pictures(images: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 [n, height, width, 3]."""
    found = of_numbers(images.reshape(-1, 3) / 255.0)
    return {k: v.reshape(3, 1, 1) for k, v in found.items() if k != "count"} | {"count": np.array([len(images)])}


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Of all, from those of its parts: exact but for the quantiles, which are the parts' weighted means."""
    counts = np.concatenate([part["count"] for part in parts])
    stacked = {key: np.stack([part[key] for part in parts]) for key in parts[0] if key != "count"}
    weights = (counts / counts.sum()).reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (weights * stacked["mean"]).sum(0)
    variance = (weights * (stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)).sum(0)
    found = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    return found | {q: (weights * stacked[q]).sum(0) for q in QUANTILES} | {"count": counts.sum(keepdims=True)}
