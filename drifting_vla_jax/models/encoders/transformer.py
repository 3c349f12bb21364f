"""The pre-norm transformer that DINOv2 and CLIP are made of, with the biases, norms and activations of their authors.

Layers are stacked: every parameter has a leading axis of ``depth`` and one compiled body serves all (``layers.stack``).
A tower given its parameters ``layer_by_layer`` computes the same, bit by bit, without taking each layer's out of the stack.
What comes out of each layer is sown as ``intermediates/blocks/hidden``, [depth b n d].
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.models.layers import Dense, attend, stack


def quick_gelu(x):
    """x * sigmoid(1.702 x): the GELU of OpenAI's CLIP."""
    return x * nn.sigmoid(1.702 * x)


def gelu(x):
    """x * Phi(x), by erf: ``jax.nn.gelu`` goes by erfc, which takes three times as long on CPU."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def swiglu(x):
    """silu(gate) * up (Shazeer, arXiv 2002.05202), the two halves of x: half as wide."""
    gate, up = jnp.split(x, 2, axis=-1)
    return nn.silu(gate) * up


ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu, "swiglu": swiglu}


class TowerBlock(nn.Module):
    """x + scale * attention(norm(x)), then x + scale * mlp(norm(x)); the scales only with ``layer_scale``."""

    heads: int
    hidden: int
    activation: str
    layer_scale: bool
    causal: bool
    epsilon: float
    lora: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        x = x + self._scale("attention_scale", self._attention(self._norm("attention_norm", x)))
        x = x + self._scale("mlp_scale", self._mlp(self._norm("mlp_norm", x)))
        self.sow("intermediates", "hidden", x)
        return x

    def _norm(self, name, x):
        return nn.LayerNorm(self.epsilon, dtype=self.dtype, use_fast_variance=False, name=name)(x)

    def _scale(self, name, y):
        if not self.layer_scale:
            return y
        return y * self.param(name, nn.initializers.ones, (y.shape[-1],)).astype(y.dtype)

    def _dense(self, width, name):
        return Dense(width, self.dtype, lora=self.lora, name=name)

    def _attention(self, x):
        b, n, d = x.shape
        q, k, v = (
            self._dense(d, name)(x).reshape(b, n, self.heads, d // self.heads) for name in ("query", "key", "value")
        )
        return self._dense(d, "out")(attend(q, k, v, causal=self.causal).reshape(b, n, d))

    def _mlp(self, x):
        wide = 2 * self.hidden if self.activation == "swiglu" else self.hidden
        hidden = ACTIVATIONS[self.activation](self._dense(wide, "up")(x))
        return self._dense(x.shape[-1], "down")(hidden)


class TransformerEncoder(nn.Module):
    """``depth`` blocks.

    Attributes:
      depth, heads: of the transformer.
      hidden: width between the two layers of each MLP.
      activation: one of ``ACTIVATIONS``.
      layer_scale: a learned vector multiplies each branch (DINOv2).
      causal: a token sees itself and what is before it (CLIP).
      epsilon: of every LayerNorm.
      lora: rank of the adapters on every matrix; 0: none.
      remat: what the backward pass computes again, see ``layers.remat``.
    """

    depth: int
    heads: int
    hidden: int
    activation: str
    layer_scale: bool
    causal: bool
    epsilon: float
    lora: int
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        fields = ("heads", "hidden", "activation", "layer_scale", "causal", "epsilon", "lora", "dtype")
        options = {name: getattr(self, name) for name in fields}
        stacked = not self.has_variable("params", "block_0")
        return stack(TowerBlock, self.depth, scan=stacked, policy=self.remat, options=options)(x)


def layer_by_layer(params: dict) -> dict:
    """An encoder's parameters with every layer's by itself: "tower/blocks/..." -> "tower/block_0/...", "tower/block_1/...".

    XLA's CPU backend copies a layer's parameters out of the stack before it uses them, at every call: an eighth of the
    time of two images through DINOv2-L. On accelerators the copy is nothing beside the compilation that stacking saves.
    """
    tower = dict(params["tower"])
    blocks = tower.pop("blocks")
    depth = len(jax.tree.leaves(blocks)[0])
    return params | {"tower": tower | {f"block_{i}": jax.tree.map(lambda x, i=i: x[i], blocks) for i in range(depth)}}
