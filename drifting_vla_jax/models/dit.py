"""Diffusion transformer over the h action tokens of one sample, modulated by the condition (adaLN-Zero).

Peebles & Xie, arXiv 2212.09748, with QK-RMSNorm, RoPE along the horizon and SwiGLU. The condition is per observation
[b 1 d] when it is the same for all samples (drifting: the modulation is computed once) or per sample [b g d].
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.models.layers import Attention, Modulation, SwiGLU, normalise, stack


class DiTBlock(nn.Module):
    """x + gate * f(norm(x) * (1 + scale) + shift), for attention and then SwiGLU; identity at initialisation."""

    heads: int
    mlp_ratio: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b g h d"], condition: Float[Array, "b #g d"]) -> Float[Array, "b g h d"]:
        b, g, h, d = x.shape
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = Modulation(6, d, self.dtype, name="modulation")(condition)
        y = (normalise(x) * (1 + scale_1) + shift_1).reshape(b * g, h, d)
        y = Attention(self.heads, self.dtype, name="attention")(y, positions=jnp.arange(h, dtype=jnp.float32))
        x = x + gate_1 * y.reshape(b, g, h, d)
        y = normalise(x) * (1 + scale_2) + shift_2
        return x + gate_2 * SwiGLU(self.mlp_ratio, self.dtype, name="mlp")(y)


class DiT(nn.Module):
    """A stack of blocks (see ``layers.stack``) and a final modulated norm."""

    depth: int
    heads: int
    mlp_ratio: float
    scan: bool
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b g h d"], condition: Float[Array, "b #g d"]) -> Float[Array, "b g h d"]:
        options = {"heads": self.heads, "mlp_ratio": self.mlp_ratio, "dtype": self.dtype}
        x = stack(DiTBlock, self.depth, self.scan, self.remat, options)(x, condition)
        shift, scale = Modulation(2, x.shape[-1], self.dtype, name="final_modulation")(condition)
        return normalise(x) * (1 + scale) + shift
