"""The matrices of Algorithm 2 (arXiv 2602.04770): distances, affinities, and how strongly every y moves every x.

    A  = sqrt( softmax_y(-d / tau) * softmax_x(-d / tau) )          [b n m]
    W  = [ -A- * sum(A+) | A+ * sum(A-) ]                           negatives first, then positives

so the field is V = W @ y. Each row of W sums to zero: a field does not change when all points move together, and the
point it acts on enters through its weights alone. All of it is in float32, whatever the network computes in.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Floors and mask of the official implementation (lambertae/drifting, drift_loss.py): part of the definition.
AFFINITY_FLOOR = 1e-6  # under the square root of A
DISTANCE_SQ_FLOOR = 1e-8
DRIFT_SQ_FLOOR = 1e-8  # of a field's mean square, when it is scaled to size one
SCALE_FLOOR = 1e-3  # of the mean distance
REACH_FLOOR = 1e-2  # of the distance from a positive to its nearest sample, in mean distances: ours, not the paper's
WEIGHT_FLOOR = 1e-6  # of a sum of weights: 0 where no coordinate of any observation counts; ours, not the paper's
SELF_DISTANCE = 100.0  # added to the distance of a point to itself, in mean distances: nothing repels itself

PRECISION = jax.lax.Precision.HIGHEST  # d^2 = x^2 + y^2 - 2xy cancels: bf16 or TF32 products would drown close pairs


class Points(NamedTuple):
    """The samples and everything they are compared with, without a gradient, in float32.

    Attributes:
      x: the g samples.
      others: what else they are compared with: extra negatives, then positives.
      weight: importance of each as a target, samples first.
      negatives: how many of the targets repel, the samples among them.
      reach: temperatures are in units of each observation's own reach (``nearest_positive_distance``), not of the mean distance.
      size: how many coordinates all samples of the batch have together, at least 1.
      width: how many one has, on average, at least 1.
    """

    x: Float[Array, "b g d"]
    others: Float[Array, "b k d"]
    weight: Float[Array, "b m"]
    negatives: int
    reach: bool
    size: Float[Array, ""]
    width: Float[Array, ""]


class Drift(NamedTuple):
    """Where the samples drift: ``total`` in units of ``unit``, and the figures that ``drifting_loss`` returns."""

    total: Float[Array, "b g d"]
    unit: Float[Array, ""]
    info: dict[str, Array]


def length_scale(scale: Float[Array, ""], width: Float[Array, ""]) -> Float[Array, ""]:
    """The unit of length (A.6): a coordinate's typical difference between two points a mean distance apart."""
    return jnp.maximum(scale / jnp.sqrt(width), SCALE_FLOOR)


def nearest_positive_distance(nearest: Float[Array, "b p"], weight: Float[Array, "b p"]) -> Float[Array, " b"]:
    """How far, in mean distances, an observation's positives are from the sample nearest to each.

    As a unit of temperature it keeps the kernel as wide as it must be and no wider: samples that have gathered in the
    wrong place all still feel the expert, and where every way of doing things has its samples the kernel tells them apart.
    """
    mean = jnp.sum(nearest * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), WEIGHT_FLOOR)
    return jnp.maximum(mean, REACH_FLOOR)


def distances(x: Float[Array, "b n d"], y: Float[Array, "b m d"]) -> Float[Array, "b n m"]:
    """Euclidean distance of every x to every y of the same observation."""
    products = jnp.einsum("bnd,bmd->bnm", x, y, precision=PRECISION)
    square = jnp.sum(x * x, axis=-1)[:, :, None] + jnp.sum(y * y, axis=-1)[:, None, :] - 2 * products
    return jnp.sqrt(jnp.maximum(square, DISTANCE_SQ_FLOOR))


def affinities(
    logits: Float[Array, "*b n m"], lse_y: Float[Array, "*b n 1"], lse_x: Float[Array, "*b 1 m"]
) -> Float[Array, "*b n m"]:
    """A of Algorithm 2 from -d / tau and its log-sum-exp over all y (a row) and over all x (a column).

    The geometric mean of how much x prefers y among all y, and y prefers x among all x.
    """
    return jnp.maximum(jnp.exp(logits - 0.5 * (lse_y + lse_x)), AFFINITY_FLOOR**0.5)


def field_weights(affinity: Float[Array, "*b n m"], negatives: int) -> Float[Array, "*b n m"]:
    """W of Algorithm 2: the first ``negatives`` columns repel, the others attract, with equal weight in every row."""
    a_neg, a_pos = affinity[..., :negatives], affinity[..., negatives:]
    w_neg = a_neg * jnp.sum(a_pos, axis=-1, keepdims=True)
    w_pos = a_pos * jnp.sum(a_neg, axis=-1, keepdims=True)
    return jnp.concatenate([-w_neg, w_pos], axis=-1)
