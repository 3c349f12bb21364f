"""The drift of large sets in strips of samples: any number of points in memory O((n + m) d + one strip of the matrix).

The matrices of Algorithm 2 are n x m per temperature; at n = m = 32,768 each is 8 GB. Nothing differentiates through
them, so they are made strip by strip (a strip: some samples against all targets) and used at once, in three passes:

    1. scale        sum of weighted distances; what is nearest to every y and to every x   [b m], [b n]
    2. columns      log-sum-exp over all x for every y, added up as strips come            [t b m]
    3. fields       row log-sum-exp within the strip, A, W, V = W @ y                      [t b n d]

The nearest other point has the largest exponent of its row or column, so that 2 and 3 need no maximum of their own: each
is an exponential and a sum, which XLA makes one loop.

A pass works the distances out anew: that is a matrix product, cheaper than reading a matrix that does not fit a cache.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.objectives.coupling import (
    DISTANCE_SQ_FLOOR,
    DRIFT_SQ_FLOOR,
    PRECISION,
    SCALE_FLOOR,
    SELF_DISTANCE,
    Drift,
    Points,
    affinities,
    distances,
    reach,
    ruler,
)

STRIP = 1 << 20  # distances in a strip: a few megabytes, which caches hold


def drift_by_strips(points: Points, temperatures: Float[Array, " t"], strip: int = STRIP) -> Drift:
    """The same as ``drifting.drift_by_products``, for sets of any size."""
    y, g = jnp.concatenate([points.x, points.others], axis=1), points.x.shape[1]
    y -= jnp.mean(y, axis=1, keepdims=True)
    b, m, d = y.shape
    rows = min(g, max(1, strip // (b * m)))
    count = -(-g // rows)
    x = jnp.pad(y[:, :g], ((0, 0), (0, count * rows - g), (0, 0)))
    x = jnp.moveaxis(x.reshape(b, count, rows, d), 1, 0)
    index = jnp.arange(count * rows).reshape(count, rows)
    real = (index < g)[..., None]  # the last strip is filled up with samples that are not
    weight = points.weight[:, None]

    def compare(x, index):
        """Distances, and which of them are of a point to itself (exactly none: rounding would leave some)."""
        is_self = index[:, None] == jnp.arange(m)
        return jnp.where(is_self, DISTANCE_SQ_FLOOR**0.5, distances(x, y)), is_self

    def add_distances(carry, strip):
        total, nearest = carry
        x, index, real = strip
        distance, is_self = compare(x, index)
        others = jnp.where(is_self | ~real, jnp.inf, distance)
        nearest = jnp.minimum(nearest, jnp.min(others, axis=1))
        return (total + jnp.sum(distance * weight * real), nearest), jnp.min(others, axis=2, keepdims=True)

    start = (jnp.zeros(()), jnp.full((b, m), jnp.inf))
    (total, nearest), nearest_y = jax.lax.scan(add_distances, start, (x, index, real))
    scale = total / (g * jnp.sum(points.weight))
    unit = ruler(scale, points.width)
    mean = jnp.maximum(scale, SCALE_FLOOR)
    nearest, nearest_y = (jnp.minimum(near / mean, SELF_DISTANCE) for near in (nearest[:, None], nearest_y))
    tau = temperatures[:, None, None, None]
    if points.reach:
        positive = slice(points.negatives, None)
        tau = tau * reach(nearest[:, 0, positive], points.weight[:, positive])[:, None, None]

    def measure(x, index):
        """-d of the definition, [b rows m]."""
        distance, is_self = compare(x, index)
        return -(distance / mean + SELF_DISTANCE * is_self)

    def add_columns(sums, strip):
        x, index, real = strip
        shares = jnp.exp((measure(x, index) + nearest) / tau)  # the largest of a column is 1
        return sums + jnp.sum(jnp.where(real, shares, 0.0), axis=-2, keepdims=True), None

    sums, _ = jax.lax.scan(add_columns, jnp.zeros((len(temperatures), b, 1, m)), (x, index, real))
    columns = jnp.log(sums) - nearest / tau
    repels = jnp.arange(m) < points.negatives

    def field(square, strip):
        x, index, real, nearest_y = strip
        z = measure(x, index)
        rows = jnp.log(jnp.sum(jnp.exp((z + nearest_y) / tau), -1, keepdims=True)) - nearest_y / tau
        a = affinities(z / tau, rows, columns) * weight
        negative = jnp.sum(jnp.where(repels, a, 0.0), -1, keepdims=True)
        positive = jnp.sum(jnp.where(repels, 0.0, a), -1, keepdims=True)
        w = a * jnp.where(repels, -positive, negative)
        v = jnp.einsum("tbnm,bmd->tbnd", w, y, precision=PRECISION) * real / unit
        return square + jnp.sum(v * v, axis=(1, 2, 3)), v

    start = jnp.zeros(len(temperatures))
    square, v = jax.lax.scan(field, start, (x, index, real, nearest_y))  # v: [count t b rows d]
    drift_sq = square / points.size
    total = jnp.einsum("ktbrd,t->bkrd", v, 1 / jnp.sqrt(jnp.maximum(drift_sq, DRIFT_SQ_FLOOR)), precision=PRECISION)
    return Drift(total.reshape(b, count * rows, d)[:, :g], unit, {"scale": scale, "drift_sq": drift_sq})
