"""The drifting loss beside a direct transcription of its definition, at the sizes of policies and at sizes of thousands.

``direct_drifting_loss`` does what the official implementation does, operation by operation: both softmaxes, one field per
temperature by matrix product, a mean square, a sum. It is the definition; ours must only be faster and smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from drifting_vla_jax.benchmarks.options import Options
from drifting_vla_jax.benchmarks.peer import Peers
from drifting_vla_jax.benchmarks.results import Report, goal
from drifting_vla_jax.benchmarks.timing import Comparison, compiled, contest, of_peer
from drifting_vla_jax.objectives.drifting.affinity import (
    AFFINITY_FLOOR,
    DISTANCE_SQ_FLOOR,
    DRIFT_SQ_FLOOR,
    SCALE_FLOOR,
    SELF_DISTANCE,
)
from drifting_vla_jax.objectives.drifting.loss import drifting_loss

TEMPERATURES = (0.02, 0.05, 0.2)
OURS = "drifting_loss"
POLICY = {"b": 512, "n": 8, "p": 1, "d": 128}
FLAT = {"b": 1, "n": 4096, "p": 4096, "d": 128}


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


def _compare(peers: Peers, title: str, sizes: dict[str, int], rounds: int, times: int) -> Comparison:
    """Loss and gradient of sets of one size: ours, the definition, and who else computes it."""
    args = _points(**sizes)
    ours = [
        compiled(name, _with_gradient(loss), args, times=times)
        for name, loss in ((OURS, drifting_loss), ("direct transcription", direct_drifting_loss))
    ]
    others = [of_peer(peers, peer, peer, "loss", **sizes, times=times) for peer in ("official-loss", "drift-models")]
    return contest(title, [*ours, *others], rounds)


def run(options: Options, peers: Peers) -> Report:
    """The policy's batch and flat sets, loss and gradient; and one more set, which only strips can hold."""
    rounds, largest = options.rounds or 30, options.largest
    policy = _compare(
        peers, "Drifting loss of a policy's batch: [512, 8, 1, 128], loss and gradient", POLICY, rounds, 10
    )
    flat = _compare(peers, "One flat set: n = p = 4,096, d = 128, loss and gradient", FLAT, max(3, rounds // 6), 1)
    report = Report([(policy, OURS), (flat, OURS)])
    if largest:
        title = f"One flat set: n = p = {largest:,}, d = 128 (a matrix of all pairs: {8 * largest**2 / 1e9:.0f} GB)"
        points = _points(1, largest, largest, 128)
        alone = contest(title, [compiled(OURS, lambda x, y: drifting_loss(x, y)[0], points)], rounds=1, warmup=0)
        report.contests.append((alone, OURS))

    def over_official(contest):
        return lambda: contest[OURS].speedup_over(contest["official-loss"])

    report.goals = [
        goal("loss [512, 8, 1, 128] over the official function", 1.5, over_official(policy)),
        goal("flat 4,096 over the official function", 1.5, over_official(flat)),
        goal("flat 4,096, scratch MB above the inputs", 100, lambda: flat[OURS].temp_mb, at_most=True),
    ]
    return report
