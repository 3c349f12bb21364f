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
(mean distance) and the rms of each field are single numbers over the whole batch. Each field has unit size by
construction, so the loss VALUE stays flat while the policy learns: watch the centroid error, the spread and
``drift_sq`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Floors and mask of the official implementation (lambertae/drifting, drift_loss.py): part of the definition.
AFFINITY_FLOOR = 1e-6
DISTANCE_SQ_FLOOR = 1e-8
DRIFT_SQ_FLOOR = 1e-8
SCALE_FLOOR = 1e-3
SELF_DISTANCE = 100.0

_PRECISION = jax.lax.Precision.HIGHEST  # d^2 = x^2 + y^2 - 2xy cancels: bf16 or TF32 products would drown close pairs


def distances(x: Float[Array, "b g d"], y: Float[Array, "b m d"]) -> Float[Array, "b g m"]:
    """Euclidean distance of every x to every y of the same observation."""
    x_sq = jnp.sum(x * x, axis=-1)
    y_sq = jnp.sum(y * y, axis=-1)
    xy = jnp.einsum("bgd,bmd->bgm", x, y, precision=_PRECISION)
    return jnp.sqrt(jnp.maximum(x_sq[:, :, None] + y_sq[:, None, :] - 2 * xy, DISTANCE_SQ_FLOOR))


def affinities(distance: Float[Array, "b g m"], temperature: float) -> Float[Array, "b g m"]:
    """A of Algorithm 2: the geometric mean of how much x prefers y among all y, and y prefers x among all x."""
    logits = -distance / temperature
    product = jax.nn.softmax(logits, axis=-1) * jax.nn.softmax(logits, axis=-2)
    return jnp.sqrt(jnp.maximum(product, AFFINITY_FLOOR))


def drift(
    x: Float[Array, "b g d"],
    y_neg: Float[Array, "b m d"],
    y_pos: Float[Array, "b p d"],
    a_neg: Float[Array, "b g m"],
    a_pos: Float[Array, "b g p"],
) -> Float[Array, "b g d"]:
    """V of Algorithm 2: toward the positives, away from the negatives, with equal total weight on either side."""
    w_pos = a_pos * jnp.sum(a_neg, axis=-1, keepdims=True)
    w_neg = a_neg * jnp.sum(a_pos, axis=-1, keepdims=True)
    v = jnp.einsum("bgp,bpd->bgd", w_pos, y_pos, precision=_PRECISION)
    v -= jnp.einsum("bgm,bmd->bgd", w_neg, y_neg, precision=_PRECISION)
    # Zero in exact arithmetic (both sides weigh the same); kept because it cancels rounding far from the origin.
    return v - (jnp.sum(w_pos, -1, keepdims=True) - jnp.sum(w_neg, -1, keepdims=True)) * x


def drifting_loss(
    gen: Float[Array, "b g d"],
    pos: Float[Array, "b p d"],
    neg: Float[Array, "b q d"] | None = None,
    *,
    weight_gen: Float[Array, "b g"] | None = None,
    weight_pos: Float[Array, "b p"] | None = None,
    weight_neg: Float[Array, "b q"] | None = None,
    temperatures: Sequence[float] = (0.02, 0.05, 0.2),
) -> tuple[Float[Array, " b"], dict[str, Array]]:
    """Squared distance of each sample to where the drifting field carries it.

    Args:
      gen: g samples per observation; the gradient flows here and nowhere else.
      pos: p expert chunks per observation.
      neg: q extra negatives per observation (the samples themselves always repel each other).
      weight_gen, weight_pos, weight_neg: importance of each point as a target; 1 if absent.
      temperatures: tau in units of the mean distance; one field each, normalised each, then summed.

    Returns:
      loss[b] and {"scale": mean weighted distance (scalar), "drift_sq" [t]: mean square of each field before it is
      normalised}: these shrink as the samples settle on the data, the loss does not.

    Raises:
      ValueError: the arrays disagree in batch or width.
    """
    for name, y in (("pos", pos), ("neg", neg)):
        if y is not None and (y.ndim != 3 or y.shape[0] != gen.shape[0] or y.shape[2] != gen.shape[2]):
            raise ValueError(f"{name} has shape {y.shape}; expected [{gen.shape[0]}, n, {gen.shape[2]}] like gen")
    g, d = gen.shape[1:]
    gen, pos = gen.astype(jnp.float32), pos.astype(jnp.float32)
    neg = gen[:, :0] if neg is None else neg.astype(jnp.float32)

    def weights(given, like):
        return jnp.ones(like.shape[:2], jnp.float32) if given is None else given.astype(jnp.float32)

    x = jax.lax.stop_gradient(gen)
    y_neg = jax.lax.stop_gradient(jnp.concatenate([x, neg], axis=1))
    y = jnp.concatenate([y_neg, jax.lax.stop_gradient(pos)], axis=1)
    w = jnp.concatenate([weights(weight_gen, gen), weights(weight_neg, neg), weights(weight_pos, pos)], axis=1)
    w = jax.lax.stop_gradient(w)[:, None, :]

    # The ruler: one number for the batch, so that a unit of x is a typical difference between samples (A.6).
    distance = distances(x, y)
    scale = jnp.mean(distance * w) / jnp.mean(w)
    unit = jnp.maximum(scale / jnp.sqrt(d), SCALE_FLOOR)
    x, y = x / unit, y / unit
    not_self = jnp.pad(jnp.eye(g), ((0, 0), (0, y.shape[1] - g)))
    distance = distance / jnp.maximum(scale, SCALE_FLOOR) + SELF_DISTANCE * not_self

    negatives = y_neg.shape[1]
    total, drift_sq = jnp.zeros_like(x), []
    for temperature in temperatures:
        a = affinities(distance, temperature) * w
        v = drift(x, y[:, :negatives], y[:, negatives:], a[..., :negatives], a[..., negatives:])
        drift_sq.append(jnp.mean(v * v))
        total += v / jnp.sqrt(jnp.maximum(drift_sq[-1], DRIFT_SQ_FLOOR))

    goal = jax.lax.stop_gradient(x + total)
    loss = jnp.mean(jnp.square(gen / unit - goal), axis=(1, 2))
    return loss, {"scale": scale, "drift_sq": jnp.stack(drift_sq)}
