"""The whole network: images, instruction and proprioception in; from noise, a chunk of actions out.

    images [b v size size 3] -> ViT, all views as one batch -> + view embedding --+
    tokens [u l] -> text encoder, once per distinct instruction -> gathered [b l] -+-> context [b n d]
    state [b s] -> one token -----------------------------------------------------+
                                                                                  |  cross-attention (fusion)
    noise [b g h z] -> action tokens [b g h d] -----------------------------------+--> DiT, adaLN-Zero --> [b g h a]

``encode`` runs once per observation; ``generate`` runs once per evaluation and only over action tokens.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from drifting_vla_jax.models.byte_text import ByteText
from drifting_vla_jax.models.dit import DiT
from drifting_vla_jax.models.fusion import Fusion
from drifting_vla_jax.models.layers import EMBEDDING_INIT, Dense, sinusoid
from drifting_vla_jax.models.vit import ViT
from drifting_vla_jax.types import ACTION_PARTS, Observation


@struct.dataclass
class Context:
    """An observation, encoded.

    Attributes:
      tokens: of all views, of the instruction, of proprioception.
      mask: False on the instruction's padding.
      condition: one vector per observation for adaLN.
    """

    tokens: Float[Array, "b n d"]
    mask: Bool[Array, "b n"]
    condition: Float[Array, "b d"]


class ActionDecoder(nn.Module):
    """One hidden layer, then a head per part of the pose: position 3, rotation 6 (continuous), gripper 1."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n a"]:
        x = nn.silu(Dense(x.shape[-1], self.dtype, name="hidden")(x))
        parts = [Dense(p.stop - p.start, jnp.float32, name=name)(x) for name, p in ACTION_PARTS.items()]
        return jnp.concatenate(parts, axis=-1)


class DriftingVLA(nn.Module):
    """See the module's docstring; every size comes from ``config.model``."""

    config: ConfigDict

    def setup(self):
        m, dtype = self.config.model, jnp.dtype(self.config.model.dtype)
        v, t = m.vision, m.text
        self.vision = ViT(v.patch, v.width, v.depth, v.heads, m.mlp_ratio, v.stem, dtype)
        self.text = ByteText(t.width, t.depth, t.heads, m.mlp_ratio, dtype)

        self.vision_projection = Dense(m.width, dtype)
        self.text_projection = Dense(m.width, dtype)
        self.state_projection = Dense(m.width, dtype)
        self.view_embedding = self.param("view_embedding", EMBEDDING_INIT, (len(self.config.env.cameras), m.width))
        self.step_embedding = self.param("step_embedding", EMBEDDING_INIT, (self.config.action.horizon, m.width))
        self.condition_text = Dense(m.width, dtype)
        self.condition_state = Dense(m.width, dtype)
        self.readout = Dense(m.readout, dtype)
        self.condition_image = Dense(m.width, dtype)
        self.condition_time = Dense(m.width, dtype)
        self.noise_projection = Dense(m.width, dtype)
        self.fusion = Fusion(m.fusion.depth, m.fusion.heads, m.mlp_ratio, dtype)
        self.dit = DiT(m.dit.depth, m.dit.heads, m.mlp_ratio, dtype)
        self.decoder = ActionDecoder(dtype)

    def encode(self, observation: Observation) -> Context:
        """Everything that depends on the observation alone."""
        m = self.config.model
        b, v, size = observation.images.shape[:3]
        image = self.vision(observation.images.reshape(b * v, size, size, 3))
        image = jax.lax.stop_gradient(image) if m.vision.freeze else image
        words, summary, word_mask = self.text(observation.tokens)
        if m.text.freeze:
            words, summary = jax.lax.stop_gradient((words, summary))

        views = self.vision_projection(image).reshape(b, v, -1, m.width)
        views = (views + self.view_embedding[:, None].astype(views.dtype)).reshape(b, -1, m.width)
        # A product with a one-hot matrix rather than a gather: its gradient is a product too, not a scatter.
        # No instruction (-1) is a row of zeros: no words to look at, nothing added to the condition.
        asked = jax.nn.one_hot(observation.prompt, len(observation.tokens), dtype=views.dtype)
        words = jnp.einsum("bu,uld->bld", asked, self.text_projection(words))
        state = observation.state.astype(views.dtype)
        tokens = jnp.concatenate([views, words, self.state_projection(state)[:, None]], axis=1)
        seen = jnp.ones((b, views.shape[1]), bool)
        said = word_mask[observation.prompt] & (observation.prompt >= 0)[:, None]
        mask = jnp.concatenate([seen, said, jnp.ones((b, 1), bool)], axis=1)
        condition = asked @ self.condition_text(summary) + self.condition_state(state)
        condition = condition + self.condition_image(self.readout(image).reshape(b, -1))
        return Context(tokens, mask, condition)

    def generate(
        self, context: Context, noise: Float[Array, "b g h z"], time: Float[Array, "b #g"]
    ) -> Float[Array, "b g h a"]:
        """One evaluation: g chunks per observation, in network units, float32.

        ``time`` is the flow's for flow matching, the log of the guidance strength for drifting, else 0. Where it is the
        same for all samples pass it as [b 1]: the modulation is then computed once per observation.
        """
        b, g, h, _ = noise.shape
        d = self.config.model.width
        x = self.noise_projection(noise.astype(context.tokens.dtype)) + self.step_embedding.astype(context.tokens.dtype)
        x = self.fusion(x.reshape(b, g * h, d), context.tokens, context.mask).reshape(b, g, h, d)
        condition = context.condition[:, None] + self.condition_time(sinusoid(time, d).astype(x.dtype))
        return self.decoder(self.dit(x, condition)).astype(jnp.float32)

    def __call__(self, observation: Observation, noise, time):
        return self.generate(self.encode(observation), noise, time)
