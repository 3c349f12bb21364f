"""The drift of large sets in strips of samples: any number of points in memory O((n + m) d + one strip of the matrix).

The matrices of Algorithm 2 are n x m per temperature; at n = m = 32,768 each is 8 GB. Nothing differentiates through
them, so they are made strip by strip (a strip: some samples against all targets) and used at once, in three passes:

    1. scale        sum of weighted distances, and from every y the sample nearest to it    [b m]
    2. columns      log-sum-exp over all x for every y                                      [b t m]
    3. fields       row log-sum-exp within the strip, A, V from A @ y and the sums of A    [b t n d]

A pass works the distances out anew: that is a matrix product, cheaper than reading a matrix that does not fit a cache.
Exponents are shifted by the nearest distance, which pass 1 has: no temperature needs a maximum of its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.objectives.drifting.affinity import (
    DISTANCE_SQ_FLOOR,
    DRIFT_SQ_FLOOR,
    PRECISION,
    SCALE_FLOOR,
    SELF_DISTANCE,
    WEIGHT_FLOOR,
    Drift,
    Points,
    affinities,
    distances,
    length_scale,
    nearest_positive_distance,
)

STRIP = 1 << 20  # distances in a strip: a few megabytes, which caches hold


def drift_by_strips(points: Points, temperatures: Float[Array, " t"], strip: int = STRIP) -> Drift:
    """The same as ``loss.drift_by_products``, for sets of any size."""
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

    def compare(x, index, itself):
        """Distances, with ``itself`` as that of a point to itself."""
        return jnp.where(index[:, None] == jnp.arange(m), itself, distances(x, y))

    def add_distances(carry, strip):
        total, nearest = carry
        x, index, real = strip
        others = jnp.where(real, compare(x, index, jnp.inf), jnp.inf)
        total += jnp.sum(compare(x, index, DISTANCE_SQ_FLOOR**0.5) * weight * real)
        return (total, jnp.minimum(nearest, jnp.min(others, axis=1))), None

    (total, nearest), _ = jax.lax.scan(add_distances, (jnp.zeros(()), jnp.full((b, m), jnp.inf)), (x, index, real))
    scale = total / (g * jnp.maximum(jnp.sum(points.weight), WEIGHT_FLOOR))
    unit = length_scale(scale, points.width)
    length = jnp.maximum(scale, SCALE_FLOOR)
    tau = temperatures[:, None, None]
    if points.reach:
        positive = slice(points.negatives, None)
        tau = (
            tau
            * nearest_positive_distance(nearest[:, positive] / length, points.weight[:, positive])[:, None, None, None]
        )
    itself = DISTANCE_SQ_FLOOR**0.5 / length + SELF_DISTANCE
    nearest = jnp.minimum(nearest / length, jnp.where(jnp.arange(m) < g, itself, jnp.inf))  # itself included
    nearest = nearest[:, None, None]

    def separation(x, index):
        return compare(x, index, itself * length)[:, None] / length

    def add_columns(total, strip):
        x, index, real = strip
        share = jnp.exp((nearest - jnp.where(real, separation(x, index), jnp.inf)) / tau)  # at most 1
        return total + jnp.sum(share, axis=2, keepdims=True), None

    columns, _ = jax.lax.scan(add_columns, jnp.zeros((b, len(temperatures), 1, m)), (x, index, real))
    columns = jnp.log(columns) - nearest / tau

    def moved(affinity, some):
        """A @ y over some of the targets, and the sum of A: one product for all temperatures."""
        # Held before its two uses, or XLA works the exponentials out for each.
        a = jax.lax.optimization_barrier(affinity[..., some] * points.weight[:, None, None, some])
        flat = a.reshape(b, -1, a.shape[-1])
        return jnp.matmul(flat, y[:, some], precision=PRECISION).reshape(*a.shape[:-1], d), jnp.sum(
            a, axis=-1, keepdims=True
        )

    def field(square, strip):
        x, index, real = strip
        apart = separation(x, index)
        closest = jnp.min(apart, axis=-1, keepdims=True)
        row = jnp.sum(jnp.exp((closest - apart) / tau), axis=-1, keepdims=True)
        affinity = affinities(-apart / tau, jnp.log(row) - closest / tau, columns)
        push, pushed = moved(affinity, slice(points.negatives))
        pull, pulled = moved(affinity, slice(points.negatives, None))
        v = (pull * pushed - push * pulled) / unit  # W @ y of ``coupling``, without W
        v = jnp.where(real, v, 0.0)  # not times 0: what fills up may lie nearer to a y than any sample, and overflow
        return square + jnp.sum(v * v, axis=(0, 2, 3)), v

    square, v = jax.lax.scan(field, jnp.zeros(len(temperatures)), (x, index, real))  # v: [count b t rows d]
    drift_sq = square / points.size
    total = jnp.einsum("kbtrd,t->bkrd", v, 1 / jnp.sqrt(jnp.maximum(drift_sq, DRIFT_SQ_FLOOR)), precision=PRECISION)
    return Drift(total.reshape(b, count * rows, d)[:, :g], unit, {"scale": scale, "drift_sq": drift_sq})
