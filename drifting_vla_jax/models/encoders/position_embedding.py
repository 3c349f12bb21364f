"""Bicubic resampling of a grid of position embeddings as torch does it.

DINOv2 was trained on a grid of 37 x 37 patches (518 px); other image sizes resample its embeddings. torch has two
bicubic kernels, and the two families of DINOv2 checkpoints use one each: Keys' kernel with a = -0.75, edges repeated,
without antialiasing; and, with registers, a = -0.5 widened when shrinking, weights renormalised at the edges.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (IEEE TASSP 29, 1981), support [-2, 2]."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def resampling_matrix(old: int, new: int, antialias: bool) -> np.ndarray:
    """float32 [new, old]: one axis of torch's ``interpolate(mode="bicubic", align_corners=False)``."""
    scale = old / new
    centre = (np.arange(new) + 0.5) * scale  # in pixels of the old grid, whose first pixel spans 0 .. 1
    if antialias:
        width = max(scale, 1.0)
        weights = cubic((np.arange(old) + 0.5 - centre[:, None]) / width, a=-0.5)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    first = np.floor(centre - 0.5).astype(int) - 1
    matrix = np.zeros((new, old))
    for tap in range(4):
        source = first + tap
        weight = cubic(centre - 0.5 - source, a=-0.75)
        np.add.at(matrix, (np.arange(new), np.clip(source, 0, old - 1)), weight)
    return matrix.astype(np.float32)


def resample_grid(
    grid: Float[Array, "old_y old_x d"], size: tuple[int, int], antialias: bool
) -> Float[Array, "new_y new_x d"]:
    """The embeddings of a grid of another size; the same embeddings if it has that size."""
    if grid.shape[:2] == size:
        return grid
    y, x = (resampling_matrix(old, new, antialias) for old, new in zip(grid.shape, size))
    return jnp.einsum("yh,xw,hwd->yxd", y, x, grid.astype(jnp.float32), precision="highest").astype(grid.dtype)
