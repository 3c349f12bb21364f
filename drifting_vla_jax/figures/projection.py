"""High-dimensional chunks on paper: the plane in which several sets of points vary most, and the clusters in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

MAX_MODES = 6
CLEAR_MODES = 0.6  # silhouette from which clusters count as modes rather than as parts of one cloud
_JUDGED = 800  # points that a silhouette is computed from


@dataclass(frozen=True)
class Plane:
    """Two directions and the point they start from.

    Attributes:
      centre: [d]. axes: [2 d], orthonormal.
      shares: [2] of the variance that each direction shows.
    """

    centre: np.ndarray
    axes: np.ndarray
    shares: np.ndarray

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points [..., d] -> [..., 2]."""
        return (points - self.centre) @ self.axes.T

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """Displacements [..., d] -> [..., 2], their lengths as the plane sees them."""
        return vectors @ self.axes.T

    def label(self, axes: Axes) -> None:
        """Names the two axes."""
        axes.set_xlabel(f"1st principal component (std. dev.), {self.shares[0]:.0%} of variance")
        axes.set_ylabel(f"2nd principal component (std. dev.), {self.shares[1]:.0%}")


def joint_plane(*sets: np.ndarray) -> Plane:
    """The first two principal components of sets of points [n_i, d] together, every set weighing the same."""
    centre = np.mean([points.mean(0) for points in sets], axis=0)
    rows = np.concatenate([(points - centre) / np.sqrt(len(points)) for points in sets])
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2, [0]] + 1e-30)
    return Plane(centre, axes, sizes[:2] ** 2 / max(np.sum(sizes**2), 1e-30))


def flat(chunks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Chunks [b ... h a] as points [b * ..., h * a], what ``mask`` [b h a] leaves out at zero."""
    mask = mask.reshape(len(mask), *[1] * (chunks.ndim - mask.ndim), *mask.shape[1:])
    return (chunks * mask).reshape(-1, mask.shape[-2] * mask.shape[-1])


def find_modes(points: np.ndarray) -> tuple[np.ndarray, float]:
    """k-means for each k from 2 to 6; the k with the largest silhouette wins.

    Args:
      points: [n 2].

    Returns:
      The cluster of each point [n], numbered from the fullest; the silhouette, -1 to 1, 0 where all points are one.
    """
    best, silhouette = np.zeros(len(points), int), 0.0
    for k in range(2, min(MAX_MODES, len(np.unique(points, axis=0))) + 1):
        _, labels = kmeans2(points, k, minit="++", rng=np.random.default_rng(0))
        score = _silhouette(points, labels)
        if score > silhouette + 1e-9:
            best, silhouette = labels, score
    fullest = np.argsort(-np.bincount(best), kind="stable")
    return np.argsort(fullest)[best], silhouette


def _silhouette(points: np.ndarray, labels: np.ndarray) -> float:
    """Mean of (b - a) / max(a, b): a is a point's mean distance to its own cluster, b to the nearest other one."""
    every = -(-len(points) // _JUDGED)
    points, labels = points[::every], labels[::every]
    names, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        return 0.0
    sums = cdist(points, points) @ np.eye(len(names))[labels]
    rows = np.arange(len(points))
    own = sums[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    other = means.min(1)
    scores = (other - own) / np.maximum(np.maximum(own, other), 1e-12)
    return float(np.mean(np.where(sizes[labels] > 1, scores, 0.0)))
