"""Conditional action chunks whose true distribution is known: one observation, two ways of doing it (or one).

An observation o in [-1, 1]^3 sets a smooth path of h steps in 4 dimensions; the expert swings to one side of it or to the
other, at random, and each observation of the training stream carries ONE label. So a policy sees the two ways only
through different observations, as with real demonstrations, while the test compares its samples with as many true ones.

    energy distance   2 E|x - y| - E|x - x'| - E|y - y'|, per root of the chunk's width: 0 if and only if the same distribution
    near no mode      share of samples further than 0.35 RMS from every way: three and a half times the expert's own noise
    minority          mean share of the less used way: 0.45 for 64 true samples, 0 for a policy that has chosen
    energy score      E|x - y| - E|x - x'| / 2 to a single label: what can be measured where the truth is unknown
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ACTIONS = 4
NOISE = 0.1  # standard deviation of the expert round its way
NEAR = 0.35


@dataclass(frozen=True)
class SyntheticChunks:
    """Two ways (``bimodal``) or one, in chunks of ``horizon`` steps."""

    horizon: int
    bimodal: bool

    def ways(self, o: Float[Array, "b c"]) -> Float[Array, "b w h a"]:
        """The noiseless paths."""
        k = jax.random.split(jax.random.key(7), 4)
        mix, phase = 0.6 * jax.random.normal(k[0], (3, 24)), jax.random.uniform(k[1], (24,), maxval=2 * jnp.pi)
        features = jnp.cos(o @ mix + phase)
        t = jnp.linspace(0, 1, self.horizon)
        basis = jnp.stack([jnp.ones_like(t), t, jnp.sin(2 * jnp.pi * t), jnp.cos(2 * jnp.pi * t)])  # [4 h]
        weights = jax.random.normal(k[2], (24, len(basis), ACTIONS)) / 24**0.5
        path = jnp.einsum("bf,fka,kh->bha", features, weights, basis)
        if not self.bimodal:
            return path[:, None]
        side = features @ jax.random.normal(k[3], (24, ACTIONS))
        side = side / jnp.linalg.norm(side, axis=-1, keepdims=True) * ACTIONS**0.5
        swing = side[:, None] * (1.4 * jnp.sin(jnp.pi * (t + t[1] / 2)))[:, None]  # RMS 1: the ways are 2 RMS apart
        return jnp.stack([path + swing, path - swing], axis=1)

    def draw(self, key, o: Float[Array, "b c"], n: int) -> Float[Array, "b n h a"]:
        """n expert chunks per observation."""
        key_way, key_noise = jax.random.split(key)
        ways = self.ways(o)
        which = jax.random.randint(key_way, (len(o), n, 1, 1), 0, ways.shape[1])
        chosen = jnp.take_along_axis(ways, which, axis=1)
        return chosen + NOISE * jax.random.normal(key_noise, chosen.shape)

    def demonstrations(self, n: int = 8192) -> Callable:
        """``draw(key, b)`` of training pairs, each observation with one label; n pairs that never change."""

        @jax.jit
        def pairs():
            o = jax.random.uniform(jax.random.key(11), (n, 3), minval=-1, maxval=1)
            return o, self.draw(jax.random.key(12), o, 1)[:, 0]

        o, labels = pairs()

        def draw(key, b: int) -> tuple[Float[Array, "b c"], Float[Array, "b h a"]]:
            rows = jax.random.randint(key, (b,), 0, n)
            return o[rows], labels[rows]

        return draw

    def judge(self, sample, params, seed: int, observations: int = 256, n: int = 64) -> dict[str, float]:
        """The figures above for ``sample(params, o, key, n)``, on observations it has not seen."""
        k = jax.random.split(jax.random.key(1000 + seed), 4)
        o = jax.random.uniform(k[0], (observations, 3), minval=-1, maxval=1)

        @jax.jit
        def figures(params, o, k):  # as arguments, so that one compiled program judges every training of a kind
            x, y = sample(params, o, k[1], n), self.draw(k[2], o, n)
            away = jnp.sqrt(jnp.mean(jnp.square(x[:, :, None] - self.ways(o)[:, None]), axis=(3, 4)))  # [b n w]
            first = jnp.mean(jnp.argmin(away, axis=-1) == 0, axis=1)
            label = self.draw(k[3], o, 1)
            root = (self.horizon * ACTIONS) ** 0.5
            return {
                "energy distance": jnp.mean(energy_distance(x, y)) / root,
                "near no mode": jnp.mean(jnp.min(away, axis=-1) > NEAR),
                "minority": jnp.mean(jnp.minimum(first, 1 - first)) if self.bimodal else jnp.nan,
                "energy score": jnp.mean(mean_distance(x, label) - mean_distance(x, x) * n / (n - 1) / 2) / root,
                "sample error": jnp.sqrt(jnp.mean(jnp.square(x - label))),
            }

        return {name: float(value) for name, value in figures(params, o, k).items()}


def mean_distance(x: Float[Array, "b n h a"], y: Float[Array, "b m h a"]) -> Float[Array, " b"]:
    """Mean Euclidean distance of all pairs of whole chunks."""
    x, y = x.reshape(*x.shape[:2], -1), y.reshape(*y.shape[:2], -1)
    square = jnp.sum(x * x, -1)[:, :, None] + jnp.sum(y * y, -1)[:, None] - 2 * jnp.einsum("bnd,bmd->bnm", x, y)
    return jnp.mean(jnp.sqrt(jnp.maximum(square, 1e-10)), axis=(1, 2))


def energy_distance(x: Float[Array, "b n h a"], y: Float[Array, "b m h a"]) -> Float[Array, " b"]:
    """Unbiased: a point is not compared with itself."""
    n, m = x.shape[1], y.shape[1]
    return 2 * mean_distance(x, y) - mean_distance(x, x) * n / (n - 1) - mean_distance(y, y) * m / (m - 1)
