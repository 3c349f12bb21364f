"""DINOv2 (Oquab et al., arXiv 2304.07193), with and without registers (Darcet et al., arXiv 2309.16588).

    uint8 RGB [n size size 3] -> ImageNet normalisation -> patches of 14 px -> [class, registers, patches] -> tower -> norm

Architecture and parameter meanings are those of the checkpoints ``facebook/dinov2-*``; ``models/pretrained/convert.py`` reads
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from drifting_vla_jax.models.encoders.position_embedding import resample_grid
from drifting_vla_jax.models.encoders.transformer import TransformerEncoder
from drifting_vla_jax.models.layers import EMBEDDING_INIT, Dense, space_to_depth

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on a scale of 0 to 1


@dataclass(frozen=True)
class DinoArchitecture:
    """Sizes of one checkpoint.

    Attributes:
      grid: patches along a side of the images it was trained on; its position embeddings are resampled from there.
      registers: tokens between the class token and the patches; the checkpoints that have them resample with antialias.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    activation: str
    registers: int = 0
    patch: int = 14
    grid: int = 37
    epsilon: float = 1e-6

    @property
    def antialias(self) -> bool:
        return self.registers > 0

    @classmethod
    def from_hugging_face(cls, c: dict) -> DinoArchitecture:
        """From the contents of a checkpoint's config.json; what it may leave out has the format's default.

        Raises:
          KeyError: a size is missing.
        """
        swiglu, hidden = c.get("use_swiglu_ffn", False), int(c["hidden_size"] * c.get("mlp_ratio", 4))
        # SwiGLU has three matrices for two: two thirds of the width, up to a multiple of 8
        return cls(
            width=c["hidden_size"],
            depth=c["num_hidden_layers"],
            heads=c["num_attention_heads"],
            hidden=(int(hidden * 2 / 3) + 7) // 8 * 8 if swiglu else hidden,
            activation="swiglu" if swiglu else c.get("hidden_act", "gelu"),
            registers=c["num_register_tokens"] if c["model_type"] == "dinov2_with_registers" else 0,
            patch=c["patch_size"],
            grid=c["image_size"] // c["patch_size"],
            epsilon=c.get("layer_norm_eps", 1e-6),
        )


def _family(registers: int) -> dict[str, DinoArchitecture]:
    return {
        "small": DinoArchitecture(384, 12, 6, 1536, "gelu", registers),
        "base": DinoArchitecture(768, 12, 12, 3072, "gelu", registers),
        "large": DinoArchitecture(1024, 24, 16, 4096, "gelu", registers),
        "giant": DinoArchitecture(1536, 40, 24, 4096, "swiglu", registers),
    }


ARCHITECTURES = {f"facebook/dinov2-{size}": a for size, a in _family(0).items()}
ARCHITECTURES |= {f"facebook/dinov2-with-registers-{size}": a for size, a in _family(4).items()}


class DINOv2(nn.Module):
    """The encoder.

    Attributes:
      size: pixels of the square that the network looks at, a multiple of the patch; images of another size are resized
        (bilinear, antialiased). 0: as they come.
      pool: side of the square of patches averaged into one token after the last norm; 1: none.
      lora, remat, dtype: see ``transformer.TransformerEncoder``.
    """

    architecture: DinoArchitecture
    size: int
    pool: int
    lora: int
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: UInt8[Array, "n height width 3"]) -> Float[Array, "n tokens d"]:
        """Class token and (pooled) patch tokens, row by row; registers have done their work and are left out.

        Raises:
          ValueError: the images cannot be cut into whole patches, or the patches into whole squares.
        """
        a, n = self.architecture, images.shape[0]
        x = images.astype(jnp.float32) / 255
        if self.size and images.shape[1:3] != (self.size, self.size):
            x = jax.image.resize(x, (n, self.size, self.size, 3), "linear")
        if any(pixels % (a.patch * self.pool) for pixels in x.shape[1:3]):
            raise ValueError(
                f"images of {x.shape[1]} x {x.shape[2]} pixels for patches of {a.patch}, {self.pool} x {self.pool} of "
                f"them averaged: expected multiples of {a.patch * self.pool}"
            )
        x = space_to_depth((x - jnp.array(MEAN)) / jnp.array(STD), a.patch)
        side = x.shape[1:3]
        x = Dense(a.width, self.dtype, name="patch")(x.reshape(n, -1, x.shape[-1]))

        first = self.param("class", EMBEDDING_INIT, (1, a.width))
        position = self.param("position", EMBEDDING_INIT, (1 + a.grid**2, a.width))
        grid = resample_grid(position[1:].reshape(a.grid, a.grid, a.width), side, a.antialias)
        x = x + grid.reshape(-1, a.width).astype(x.dtype)
        start = [first + position[:1]]
        if a.registers:
            start.append(self.param("registers", EMBEDDING_INIT, (a.registers, a.width)))
        start = jnp.concatenate(start).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(start, (n, *start.shape)), x], axis=1)
        self.sow("intermediates", "embedded", x)

        options = {"layer_scale": True, "causal": False, "lora": self.lora, "remat": self.remat, "dtype": self.dtype}
        x = TransformerEncoder(a.depth, a.heads, a.hidden, a.activation, epsilon=a.epsilon, **options, name="tower")(x)
        x = nn.LayerNorm(a.epsilon, dtype=self.dtype, use_fast_variance=False, name="norm")(x)
        patches = x[:, 1 + a.registers :].reshape(n, *side, a.width)
        if self.pool > 1:
            patches = nn.avg_pool(patches, (self.pool, self.pool), strides=(self.pool, self.pool))
        return jnp.concatenate([x[:, :1], patches.reshape(n, -1, a.width)], axis=1)
