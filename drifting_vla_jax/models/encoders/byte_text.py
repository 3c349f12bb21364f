"""A small text encoder on bytes, trained from scratch: no vocabulary file, no download.

Token ids come from ``models/tokenizers.py``: 0 is padding, 1 + byte otherwise. Distinct instructions are few, so they are
encoded once per batch and gathered by whoever needs them.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from drifting_vla_jax.models.encoders.base import Encoder
from drifting_vla_jax.models.layers import EMBEDDING_INIT, Block, RMSNorm
from drifting_vla_jax.models.tokenizers import VOCABULARY
from drifting_vla_jax.types import Text


class ByteText(Encoder):
    """Transformer over the bytes of an instruction, RoPE positions, mean-pooled summary."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float
    dtype: jnp.dtype

    @classmethod
    def of(cls, model, dtype):
        t = model.text
        return cls(t.width, t.depth, t.heads, model.mlp_ratio, dtype)

    @nn.compact
    def __call__(self, tokens: Int[Array, "u l"]) -> Text:
        mask = tokens > 0
        x = nn.Embed(VOCABULARY, self.width, embedding_init=EMBEDDING_INIT, dtype=self.dtype, name="embed")(tokens)
        positions = jnp.arange(tokens.shape[1], dtype=jnp.float32)
        for i in range(self.depth):
            x = Block(self.heads, self.mlp_ratio, self.dtype, name=f"block_{i}")(x, mask=mask, positions=positions)
        x = RMSNorm(name="norm")(x)
        real = mask[..., None].astype(x.dtype)
        pooled = jnp.sum(x * real, axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)
        return Text(x, pooled, mask)
