"""Cross-attention fusion: every action token asks the observation's context.

The g samples of an observation are folded into the query axis, [b, g * h, d]: the context of an observation is encoded
once, kept once, and never tiled, whatever g is.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from drifting_vla_jax.models.layers import Attention, RMSNorm, SwiGLU


class Fusion(nn.Module):
    """Pre-norm layers of cross-attention and SwiGLU."""

    depth: int
    heads: int
    mlp_ratio: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b gh d"], context: Float[Array, "b n d"], mask: Bool[Array, "b n"]
    ) -> Float[Array, "b gh d"]:
        context = RMSNorm(name="context_norm")(context)
        for i in range(self.depth):
            attention = Attention(self.heads, self.dtype, name=f"attention_{i}")
            x = x + attention(RMSNorm(name=f"attention_norm_{i}")(x), context, mask)
            x = x + SwiGLU(self.mlp_ratio, self.dtype, name=f"mlp_{i}")(RMSNorm(name=f"mlp_norm_{i}")(x))
        return x
