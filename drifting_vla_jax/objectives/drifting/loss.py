"""The drifting objective: train-time transport, so that one forward pass samples the policy at test time.

Deng et al., "Generative Modeling via Drifting", arXiv 2602.04770: Algorithm 2 (the field) and appendix A.6 (its
normalisation). For one observation the network draws g samples x; the expert chunk is the positive y+ (p of them), the
samples themselves are the negatives y- (and q extra ones, if any). Each sample drifts toward positives and away from
negatives, and the network is asked to be where the drift ends:

    A   = sqrt( softmax_y(-d / tau) * softmax_x(-d / tau) )     d: distance of every x to every y, in mean distances
    W+  = A+ * sum(A-) ;  W- = A- * sum(A+)                     positives and negatives weigh the same
    V   = W+ @ y+  -  W- @ y-                                   the drifting field, one per temperature tau
    loss = || x - stop_gradient(x + sum_tau V_tau / rms(V_tau)) ||^2

The softmaxes run within an observation, never across: pooling observations would fit p(a) and not p(a|o). The ruler
(mean distance) and the rms of each field are single numbers over the whole batch, however many devices share it. Each
field has unit size by construction, so the loss VALUE stays flat while the policy learns: watch the centroid error, the
spread and ``drift_sq`` instead.

The field is never differentiated. Small sets (a policy's: g samples and one expert) take ``drift_by_products``, larger
ones ``blockwise.py``, whose memory does not grow with the number of pairs; the shapes decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
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
    field_weights,
    length_scale,
    nearest_positive_distance,
)
from drifting_vla_jax.objectives.drifting.blockwise import drift_by_strips

PRODUCTS_LIMIT = 64  # targets per observation up to which all their inner products cost less than a field per tau


def drifting_field(
    x: Float[Array, "b n d"],
    y_pos: Float[Array, "b p d"],
    y_neg: Float[Array, "b m d"],
    temperature: float,
    *,
    mask_self: bool = False,
) -> Float[Array, "b n d"]:
    """V of Algorithm 2: one temperature, any positives and negatives, distances as they are.

    Args:
      x: where the field is wanted.
      y_pos, y_neg: what attracts, what repels.
      temperature: tau, in the units of the points.
      mask_self: the first n negatives are x itself, and none is to repel itself.
    """
    y = jnp.concatenate([y_neg, y_pos], axis=1).astype(jnp.float32)
    logits = -distances(x.astype(jnp.float32), y) / temperature
    if mask_self:
        logits -= SELF_DISTANCE * jnp.eye(x.shape[1], y.shape[1])
    affinity = affinities(logits, logsumexp(logits, -1, keepdims=True), logsumexp(logits, -2, keepdims=True))
    return jnp.einsum("bnm,bmd->bnd", field_weights(affinity, y_neg.shape[1]), y, precision=PRECISION)


def drifting_loss(
    gen: Float[Array, "b g d"],
    pos: Float[Array, "b p d"],
    neg: Float[Array, "b q d"] | None = None,
    *,
    weight_gen: Float[Array, "b g"] | None = None,
    weight_pos: Float[Array, "b p"] | None = None,
    weight_neg: Float[Array, "b q"] | None = None,
    mask: Float[Array, "b d"] | None = None,
    temperatures: Sequence[float] | Float[Array, " t"] = (0.02, 0.05, 0.2),
    in_reach: bool = False,
) -> tuple[Float[Array, " b"], dict[str, Array]]:
    """Squared distance of each sample to where the drifting field carries it.

    Args:
      gen: g samples per observation; the gradient flows here and nowhere else.
      pos: p expert chunks per observation.
      neg: q extra negatives per observation (the samples themselves always repel each other).
      weight_gen, weight_pos, weight_neg: importance of each point as a target; 1 if absent.
      mask: 1 where a coordinate counts; the others neither measure nor move, and an observation without any is left out;
        where all are, nothing moves.
      temperatures: tau in units of the mean distance; one field each, normalised each, then summed.
      in_reach: False is the paper. True: tau in units of each observation's own distance from its positives to the
        nearest sample (``affinity.nearest_positive_distance``).

    Returns:
      loss[b] and {"scale": mean weighted distance (scalar), "drift_sq" [t]: mean square of each field before it is
      normalised, in squared units of "unit" (scalar)}: these shrink as the samples settle on the data, the loss does not.

    Raises:
      ValueError: the arrays disagree in batch or width.
    """
    g = gen.shape[1]
    points, mask = _points(gen, pos, neg, (weight_gen, weight_neg, weight_pos), mask, in_reach)
    total, unit, info = _drift(points, temperatures)
    goal = jax.lax.stop_gradient(points.x / unit + total)
    kept = gen.astype(jnp.float32) * mask[:, None]
    loss = jnp.sum(jnp.square(kept / unit - goal), axis=(1, 2)) / (g * jnp.maximum(jnp.sum(mask, axis=1), 1.0))
    return loss, info | {"unit": unit}


def raw_drift(
    gen: Float[Array, "b g d"],
    pos: Float[Array, "b p d"],
    *,
    mask: Float[Array, "b d"] | None = None,
    temperatures: Sequence[float] | Float[Array, " t"] = (0.02, 0.05, 0.2),
    in_reach: bool = False,
) -> tuple[Float[Array, "t b g d"], Float[Array, " t"]]:
    """The fields that ``drifting_loss`` scales to size one, as they are: to be looked at, not to be trained on.

    Returns:
      V of each temperature in the units of the points, and its rms over all coordinates that count: both vanish where the
      samples of every observation have settled on its positives.
    """
    points, _ = _points(gen, pos, None, (None, None, None), mask, in_reach)
    fields, rms = [], []
    for i in range(len(temperatures)):
        total, unit, info = _drift(points, jnp.asarray(temperatures, jnp.float32)[i : i + 1])
        rms.append(unit * jnp.sqrt(info["drift_sq"][0]))
        fields.append(total * unit * jnp.sqrt(jnp.maximum(info["drift_sq"][0], DRIFT_SQ_FLOOR)))
    return jnp.stack(fields), jnp.stack(rms)


def _points(gen, pos, neg, weights, mask, in_reach: bool) -> tuple[Points, Float[Array, "b d"]]:
    """What the fields are computed from, and the mask; the arguments are those of ``drifting_loss``."""
    for name, y in (("pos", pos), ("neg", neg)):
        if y is not None and (y.ndim != 3 or y.shape[0] != gen.shape[0] or y.shape[2] != gen.shape[2]):
            raise ValueError(f"{name} has shape {y.shape}; expected [{gen.shape[0]}, n, {gen.shape[2]}] like gen")
    g = gen.shape[1]
    mask = jnp.ones_like(gen[:, 0], jnp.float32) if mask is None else mask.astype(jnp.float32)
    neg = gen[:, :0] if neg is None else neg
    gen, neg, pos = (jax.lax.stop_gradient(x.astype(jnp.float32) * mask[:, None]) for x in (gen, neg, pos))

    given = zip(weights, (gen, neg, pos), strict=True)
    weight = jnp.concatenate([jnp.ones(y.shape[:2]) if w is None else w.astype(jnp.float32) for w, y in given], axis=1)
    counted = jnp.any(mask > 0, axis=1, keepdims=True)
    points = Points(
        x=gen,
        others=jnp.concatenate([neg, pos], axis=1) if neg.shape[1] else pos,
        weight=jax.lax.stop_gradient(weight * counted),
        negatives=g + neg.shape[1],
        reach=in_reach,
        size=g * jnp.maximum(jnp.sum(mask), 1.0),
        width=jnp.maximum(jnp.sum(mask) / jnp.maximum(jnp.sum(counted), 1), 1.0),
    )
    return points, mask


def _drift(points: Points, temperatures: Sequence[float] | Float[Array, " t"]) -> Drift:
    drift = drift_by_products if points.weight.shape[1] <= PRODUCTS_LIMIT else drift_by_strips
    return drift(points, jnp.asarray(temperatures, jnp.float32))


def drift_by_products(points: Points, temperatures: Float[Array, " t"]) -> Drift:
    """The drift of small sets, from the inner products of all targets with each other.

    They give the distances, and the size of a field V = W @ y without making it: |V_i|^2 = W_i (y y^T) W_i^T. So one
    product with y serves all temperatures. Points are taken from the first positive: that changes no field, and keeps
    the digits of samples that have gathered round it.
    """
    g, w = points.x.shape[1], points.weight[:, None]
    origin = points.others[:, points.negatives - g][:, None]
    x, others = points.x - origin, points.others - origin
    inner = jnp.concatenate([_products(x, x), _products(x, others)], axis=2)
    inner = jnp.concatenate(
        [inner, jnp.concatenate([_swap(inner[:, :, g:]), _products(others, others)], axis=2)], axis=1
    )
    y_sq = jnp.diagonal(inner, axis1=1, axis2=2)
    square = y_sq[:, :g, None] + y_sq[:, None] - 2 * inner[:, :g]
    is_self = jnp.eye(g, inner.shape[1], dtype=bool)  # exactly no distance: what rounding leaves there would count
    distance = jnp.sqrt(jnp.maximum(jnp.where(is_self, 0.0, square), DISTANCE_SQ_FLOOR))

    # Summed per observation first: over many devices the last, global sum is then the only one that changes order.
    scale = jnp.sum(jnp.einsum("bgm,bm->b", distance, points.weight, precision=PRECISION)) / (
        g * jnp.maximum(jnp.sum(points.weight), WEIGHT_FLOOR)
    )
    unit = length_scale(scale, points.width)
    distance = distance / jnp.maximum(scale, SCALE_FLOOR)
    tau = temperatures[:, None, None]
    if points.reach:
        nearest = jnp.min(distance[:, :, points.negatives :], axis=1)
        tau = tau * nearest_positive_distance(nearest, points.weight[:, points.negatives :])[:, None, None, None]
    logits = -(distance + SELF_DISTANCE * is_self)[:, None] / tau  # [b t g m]
    affinity = affinities(logits, logsumexp(logits, -1, keepdims=True), logsumexp(logits, -2, keepdims=True))
    field = field_weights(affinity * w[:, None], points.negatives)
    rows = field.reshape(len(field), -1, field.shape[-1])
    length_sq = (rows * jnp.einsum("bim,bmn->bin", rows, inner, precision=PRECISION)).reshape(field.shape)
    drift_sq = jnp.sum(length_sq, axis=(0, 2, 3)) / (points.size * unit**2)
    size = jnp.sqrt(jnp.maximum(drift_sq, DRIFT_SQ_FLOOR))
    combined = sum(field[:, i] / size[i] for i in range(len(temperatures)))
    total = _weighted(combined[..., :g], x) + _weighted(combined[..., g:], others)
    return Drift(total / unit, unit, {"scale": scale, "drift_sq": drift_sq})


def _products(x: Float[Array, "b n d"], y: Float[Array, "b m d"]) -> Float[Array, "b n m"]:
    """Inner products; with a single y as a sum, which is faster than a product of matrices so thin."""
    if y.shape[1] == 1:
        return jnp.sum(x * y, axis=-1, keepdims=True)
    return jnp.einsum("bnd,bmd->bnm", x, y, precision=PRECISION)


def _weighted(w: Float[Array, "b n m"], y: Float[Array, "b m d"]) -> Float[Array, "b n d"]:
    return w * y if y.shape[1] == 1 else jnp.einsum("bnm,bmd->bnd", w, y, precision=PRECISION)


def _swap(x: Float[Array, "b n m"]) -> Float[Array, "b m n"]:
    return jnp.swapaxes(x, 1, 2)
