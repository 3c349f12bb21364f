"""Cross-attention fusion: every action token asks the observation's context.

The g samples of an observation are folded into the query axis, [b, g * h, d]: the context of an observation is encoded
once, kept once, and never tiled, whatever g is.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from drifting_vla_jax.models.layers import Attention, RMSNorm, SwiGLU, stack


class FusionBlock(nn.Module):
    """Cross-attention, then SwiGLU, both on what RMSNorm lets through and both added to it."""

    heads: int
    mlp_ratio: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b gh d"], context: Float[Array, "b n d"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b gh d"]:
        attention = Attention(self.heads, self.dtype, name="attention")
        x = x + attention(RMSNorm(name="attention_norm")(x), context, mask)
        return x + SwiGLU(self.mlp_ratio, self.dtype, name="mlp")(RMSNorm(name="mlp_norm")(x))


class Fusion(nn.Module):
    """A stack of blocks (see ``layers.stack``) over a context that is normalised once."""

    depth: int
    heads: int
    mlp_ratio: float
    scan: bool
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b gh d"], context: Float[Array, "b n d"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b gh d"]:
        context = RMSNorm(name="context_norm")(context)
        options = {"heads": self.heads, "mlp_ratio": self.mlp_ratio, "dtype": self.dtype}
        return stack(FusionBlock, self.depth, self.scan, self.remat, options)(x, context, mask)
