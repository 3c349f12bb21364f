"""A small vision transformer trained from scratch: uint8 pixels of one view -> a grid of tokens.

Dosovitskiy et al., arXiv 2010.11929, with RMSNorm, QK-norm and SwiGLU. ``stem="conv"`` replaces the one linear patch
map by squares of 4 pixels and 3x3 convolutions that halve the grid until it is the same (Xiao et al., arXiv 2106.14881:
early convolutions help a transformer see).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from drifting_vla_jax.models.encoders.base import Encoder
from drifting_vla_jax.models.layers import EMBEDDING_INIT, Block, Dense, RMSNorm, platform, space_to_depth


class ViT(Encoder):
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

    @classmethod
    def of(cls, model, dtype):
        v = model.vision
        return cls(v.patch, v.width, v.depth, v.heads, model.mlp_ratio, v.stem, dtype)

    @classmethod
    def problems(cls, model, image_size):
        patch, levels = model.vision.patch, model.vision.patch // 4
        if image_size % patch:
            yield f"config.env.image_size {image_size} is no multiple of config.model.vision.patch {patch}"
        if model.vision.stem == "conv" and (patch % 4 or levels & (levels - 1)):
            yield f"config.model.vision.patch is {patch}; the conv stem needs 4, 8, 16 or 32"

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
            own = {"conv_general_dilated": halving_convolution} if platform() == "cpu" else {}
            conv = nn.Conv(widths[i + 1], (3, 3), strides=(2, 2), dtype=self.dtype, name=f"conv_{i + 1}", **own)
            x = conv(nn.silu(x))
        return x


def halving_convolution(
    x: Float[Array, "n height width c"], kernel: Float[Array, "3 3 c d"], *_, **__
) -> Float[Array, "n height//2 width//2 d"]:
    """A 3x3 convolution of stride 2 and padding "SAME" on even sides, for ``nn.Conv`` on CPU: XLA's backend takes twice as
    long for its gradient as for that of the product it is."""
    return _halving(x, kernel)


@jax.custom_vjp
def _halving(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _as_product(x, kernel):
    """The same over the nine shifted pictures, side by side."""
    n, height, width, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))  # what "SAME" adds to an even side
    shifts = [x[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    columns = jnp.concatenate(shifts, axis=-1).reshape(-1, 9 * c)
    return (columns @ kernel.reshape(9 * c, -1)).reshape(n, height // 2, width // 2, -1)


_halving.defvjp(
    lambda x, kernel: (_halving(x, kernel), (x, kernel)), lambda saved, g: jax.vjp(_as_product, *saved)[1](g)
)
