"""A small vision transformer trained from scratch: uint8 pixels of one view -> a grid of tokens.

Dosovitskiy et al., arXiv 2010.11929, with RMSNorm, QK-norm and SwiGLU. ``stem="conv"`` replaces the one linear patch
map by squares of 4 pixels and 3x3 convolutions that halve the grid until it is the same (Xiao et al., arXiv 2106.14881:
early convolutions help a transformer see).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from drifting_vla_jax.models.layers import EMBEDDING_INIT, Block, Dense, RMSNorm, space_to_depth


class ViT(nn.Module):
    """Image encoder shared by all views.

    Attributes:
      patch: side of a patch in pixels; with the conv stem 4 times a power of two.
      width, depth, heads, mlp_ratio: of the transformer.
      stem: "patch" or "conv".
    """

    patch: int
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    stem: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: UInt8[Array, "n size size 3"]) -> Float[Array, "n tokens width"]:
        x = (images.astype(self.dtype) / 127.5) - 1.0
        x = self._conv_stem(x) if self.stem == "conv" else self._patch_stem(x)
        x = x.reshape(x.shape[0], -1, self.width)
        x = x + self.param("position", EMBEDDING_INIT, (1, x.shape[1], self.width)).astype(self.dtype)
        for i in range(self.depth):
            x = Block(self.heads, self.mlp_ratio, self.dtype, name=f"block_{i}")(x)
        return RMSNorm(name="norm")(x)

    def _patch_stem(self, x):
        return Dense(self.width, self.dtype, name="patch")(space_to_depth(x, self.patch))

    def _conv_stem(self, x):
        levels = (self.patch // 4).bit_length() - 1
        widths = [max(32, self.width >> (levels - i)) for i in range(levels)] + [self.width]
        x = Dense(widths[0], self.dtype, name="conv_0")(space_to_depth(x, 4))
        for i in range(levels):
            conv = nn.Conv(widths[i + 1], (3, 3), strides=(2, 2), dtype=self.dtype, name=f"conv_{i + 1}")
            x = conv(nn.silu(x))
        return x
