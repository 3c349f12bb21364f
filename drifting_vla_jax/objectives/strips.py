"""The drift of large sets in strips of samples: any number of points in memory O((n + m) d + one strip of the matrix).

The matrices of Algorithm 2 are n x m per temperature; at n = m = 32,768 each is 8 GB. Nothing differentiates through
them, so they are made strip by strip (a strip: some samples against all targets) and used at once, in three passes:

    1. scale        sum of weighted distances, and the sample nearest to every y        [b m]
    2. columns      log-sum-exp over all x for every y, kept up as strips come [t b m]
    3. fields       row log-sum-exp within the strip, A, W, V = W @ y          [t b n d]

A pass works the distances out anew: that is a matrix product, cheaper than reading a matrix that does not fit a cache.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
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
    coupling,
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
        distance, _ = compare(x, index)
        nearest = jnp.minimum(nearest, jnp.min(jnp.where(real, distance, jnp.inf), axis=1))
        return (total + jnp.sum(distance * weight * real), nearest), None

    (total, nearest), _ = jax.lax.scan(add_distances, (jnp.zeros(()), jnp.full((b, m), jnp.inf)), (x, index, real))
    scale = total / (g * jnp.sum(points.weight))
    unit = ruler(scale, points.width)
    tau = temperatures[:, None, None, None]
    if points.reach:
        positive = slice(points.negatives, None)
        own = reach(nearest[:, positive] / jnp.maximum(scale, SCALE_FLOOR), points.weight[:, positive])
        tau = tau * own[:, None, None]

    def logits(x, index):
        distance, is_self = compare(x, index)
        return -(distance / jnp.maximum(scale, SCALE_FLOOR) + SELF_DISTANCE * is_self) / tau  # [t b rows m]

    def add_columns(lse, strip):
        x, index, real = strip
        z = jnp.where(real, logits(x, index), -jnp.inf)
        return jnp.logaddexp(lse, logsumexp(z, axis=-2, keepdims=True)), None

    columns, _ = jax.lax.scan(add_columns, jnp.full((len(temperatures), b, 1, m), -jnp.inf), (x, index, real))

    def field(square, strip):
        x, index, real = strip
        z = logits(x, index)
        w = coupling(affinities(z, logsumexp(z, -1, keepdims=True), columns) * weight, points.negatives)
        v = jnp.einsum("tbnm,bmd->tbnd", w, y, precision=PRECISION) / unit
        v = jnp.where(real, v, 0.0)  # not times 0: what fills up may lie nearer to a y than any sample, and overflow
        return square + jnp.sum(v * v, axis=(1, 2, 3)), v

    square, v = jax.lax.scan(field, jnp.zeros(len(temperatures)), (x, index, real))  # v: [count t b rows d]
    drift_sq = square / points.size
    total = jnp.einsum("ktbrd,t->bkrd", v, 1 / jnp.sqrt(jnp.maximum(drift_sq, DRIFT_SQ_FLOOR)), precision=PRECISION)
    return Drift(total.reshape(b, count * rows, d)[:, :g], unit, {"scale": scale, "drift_sq": drift_sq})
