"""The drifting loss beside a direct transcription of its definition, at the sizes of policies and at sizes of thousands.

``direct_drifting_loss`` does what the official implementation does, operation by operation: both softmaxes, one field per
temperature by matrix product, a mean square, a sum. It is the definition; ours must only be faster and smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from drifting_vla_jax.benchmarks.timing import Measured, format_table, measure
from drifting_vla_jax.objectives.coupling import (
    AFFINITY_FLOOR,
    DISTANCE_SQ_FLOOR,
    DRIFT_SQ_FLOOR,
    SCALE_FLOOR,
    SELF_DISTANCE,
)
from drifting_vla_jax.objectives.drifting import drifting_loss

TEMPERATURES = (0.02, 0.05, 0.2)


def direct_drifting_loss(gen, pos, temperatures: Sequence[float] = TEMPERATURES):
    """``drifting_loss(gen, pos)`` as it is written down (shapes and result as there, weights 1)."""
    g, d = gen.shape[1:]
    x = jax.lax.stop_gradient(gen)
    y = jnp.concatenate([x, pos], axis=1)
    x_sq, y_sq = jnp.sum(x * x, axis=-1), jnp.sum(y * y, axis=-1)
    square = x_sq[:, :, None] + y_sq[:, None, :] - 2 * jnp.einsum("bnd,bmd->bnm", x, y)
    distance = jnp.sqrt(jnp.maximum(square, DISTANCE_SQ_FLOOR))
    scale = jnp.mean(distance)
    unit = jnp.maximum(scale / jnp.sqrt(d), SCALE_FLOOR)
    x, y = x / unit, y / unit
    distance = distance / jnp.maximum(scale, SCALE_FLOOR) + SELF_DISTANCE * jnp.eye(g, y.shape[1])

    total, drift_sq = jnp.zeros_like(x), []
    for temperature in temperatures:
        logits = -distance / temperature
        product = jax.nn.softmax(logits, axis=-1) * jax.nn.softmax(logits, axis=-2)
        a = jnp.sqrt(jnp.maximum(product, AFFINITY_FLOOR))
        a_neg, a_pos = a[..., :g], a[..., g:]
        w_neg, w_pos = -a_neg * jnp.sum(a_pos, -1, keepdims=True), a_pos * jnp.sum(a_neg, -1, keepdims=True)
        w = jnp.concatenate([w_neg, w_pos], axis=-1)
        v = jnp.einsum("bnm,bmd->bnd", w, y) - jnp.sum(w, -1, keepdims=True) * x
        drift_sq.append(jnp.mean(v * v))
        total += v / jnp.sqrt(jnp.maximum(drift_sq[-1], DRIFT_SQ_FLOOR))
    goal = jax.lax.stop_gradient(x + total)
    return jnp.mean(jnp.square(gen / unit - goal), axis=(1, 2)), {"scale": scale, "drift_sq": jnp.stack(drift_sq)}


def _points(b: int, n: int, p: int, d: int):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((b, n, d), np.float32)), jnp.asarray(
        rng.standard_normal((b, p, d), np.float32)
    )


def _with_gradient(loss):
    return jax.value_and_grad(lambda gen, pos: loss(gen, pos)[0].sum())


def _forward(loss):
    return lambda gen, pos: loss(gen, pos)[0]


def run(largest: int = 32768) -> tuple[str, dict[str, list[Measured]]]:
    """The tables, in markdown, and their rows. ``largest``: points of the set that only strips can hold."""
    ours, direct = "drifting_loss", "direct transcription"
    policy = measure(
        {direct: _with_gradient(direct_drifting_loss), ours: _with_gradient(drifting_loss)}, _points(512, 8, 1, 128), 60
    )
    flat = measure(
        {direct: _forward(direct_drifting_loss), ours: _forward(drifting_loss)}, _points(1, 4096, 4096, 128), 5
    )
    large = measure({ours: _forward(drifting_loss)}, _points(1, largest, largest, 128), 1)
    tables = [
        format_table("A policy's batch: 512 observations, g = 8, p = 1, d = 128; loss and gradient", policy, direct),
        format_table("One flat set: n = p = 4,096, d = 128; forward", flat, direct),
        format_table(f"One flat set: n = p = {largest:,}, d = 128; forward (a matrix of all pairs: "
                     f"{8 * largest**2 / 1e9:.0f} GB)", large, ours),
    ]  # fmt: skip
    return "\n".join(tables), {"policy": policy, "flat": flat, "large": large}
