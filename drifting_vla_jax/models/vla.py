"""The whole network: images, instruction and proprioception in; from noise, a chunk of actions out.

    images [b v size size 3] -> image encoder, all views as one batch -> + view embedding --+
    tokens [u l] -> text encoder, once per distinct instruction -> gathered [b l] -----------+-> context [b n d]
    state [b s] -> one token (if proprioception) --------------------------------------------+
                                                                             |  cross-attention (fusion)
    noise [b g h z] -> action tokens [b g h d] ------------------------------+--> DiT, adaLN-Zero --> [b g h a]

``encode`` runs once per observation; ``generate`` runs once per evaluation and only over action tokens. Encoders are
trained from scratch (``encoders.registry``) or pretrained (``dinov2``, ``clip_text``); where their outputs are stored
already, these take the place of images and tokens.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8
from ml_collections import ConfigDict

from drifting_vla_jax.core.action_layout import ActionLayout, layout_of
from drifting_vla_jax.models.cross_attention import Fusion
from drifting_vla_jax.models.dit import DiT
from drifting_vla_jax.models.encoders.clip_text import ClipText
from drifting_vla_jax.models.encoders.dinov2 import DINOv2
from drifting_vla_jax.models.encoders.registry import encoder_class, is_pretrained
from drifting_vla_jax.models.layers import EMBEDDING_INIT, Dense, constrain_batch_sharding, sinusoid
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.types import ModelObservation, Text, views


@struct.dataclass
class Context:
    """An observation, encoded.

    Attributes:
      tokens: of all views, of the instruction, of proprioception.
      mask: False on the instruction's padding and on views that are missing.
      condition: one vector per observation for adaLN.
    """

    tokens: Float[Array, "b n d"]
    mask: Bool[Array, "b n"]
    condition: Float[Array, "b d"]


class ActionDecoder(nn.Module):
    """One hidden layer, then a head per part of the action: of a pose position 3, rotation 6 (continuous), gripper 1."""

    layout: ActionLayout
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n a"]:
        x = nn.silu(Dense(x.shape[-1], self.dtype, name="hidden")(x))
        parts = [Dense(part.width, jnp.float32, name=part.name)(x) for part in self.layout.parts]
        return jnp.concatenate(parts, axis=-1)


class DriftingVLA(nn.Module):
    """See the module's docstring; every size comes from ``config.model``."""

    config: ConfigDict

    def setup(self):
        m, dtype = self.config.model, jnp.dtype(self.config.model.dtype)
        self.vision, self.text = make_vision(self.config), make_text(self.config)
        self.vision_projection = Dense(m.width, dtype)
        self.text_projection = Dense(m.width, dtype)
        if m.proprioception:
            self.state_projection = Dense(m.width, dtype)
            self.condition_state = Dense(m.width, dtype)
        self.view_embedding = self.param("view_embedding", EMBEDDING_INIT, (views(self.config), m.width))
        self.step_embedding = self.param("step_embedding", EMBEDDING_INIT, (self.config.action.horizon, m.width))
        self.condition_text = Dense(m.width, dtype)
        self.readout = Dense(m.readout, dtype)
        self.condition_image = Dense(m.width, dtype)
        self.condition_time = Dense(m.width, dtype)
        self.noise_projection = Dense(m.width, dtype)
        self.fusion = Fusion(m.fusion.depth, m.fusion.heads, m.mlp_ratio, m.scan_layers, m.remat, dtype)
        self.dit = DiT(m.dit.depth, m.dit.heads, m.mlp_ratio, m.scan_layers, m.remat, dtype)
        self.decoder = ActionDecoder(layout_of(self.config), dtype)

    def encode_images(self, images: UInt8[Array, "b v size size 3"]) -> Float[Array, "b v n e"]:
        """What the image encoder makes of every view."""
        features = self.vision(images.reshape(-1, *images.shape[2:]))
        return features.reshape(*images.shape[:2], *features.shape[1:])

    def encode_text(self, tokens: Int[Array, "u l"]) -> Text:
        """What the text encoder makes of every instruction."""
        return self.text(tokens)

    def encode(self, observation: ModelObservation) -> Context:
        """Everything that depends on the observation alone."""
        m, state = self.config.model, observation.state
        features = observation.features
        features = (self.encode_images(observation.images) if features is None else features).astype(m.dtype)
        b, v = features.shape[:2]
        seen = self.vision_projection(features) + self.view_embedding[:, None].astype(m.dtype)
        readout, there = self.readout(features), jnp.ones((b, v * features.shape[2]), bool)
        if observation.seen is not None:  # a view that is missing: its tokens are not looked at, its readout is zero
            readout = readout * observation.seen[..., None, None]
            there = jnp.repeat(observation.seen, features.shape[2], axis=1)
        condition = self.condition_image(constrain_batch_sharding(readout.reshape(b, -1)))
        words, summary, said = self._instructions(observation)
        tokens, mask = [seen.reshape(b, -1, m.width), words], [there, said]
        condition = condition + summary
        if m.proprioception:
            state = state.astype(m.dtype)
            tokens.append(self.state_projection(state)[:, None])
            mask.append(jnp.ones((b, 1), bool))
            condition = condition + self.condition_state(state)
        return Context(
            constrain_batch_sharding(jnp.concatenate(tokens, axis=1)), jnp.concatenate(mask, axis=1), condition
        )

    def _instructions(self, observation: ModelObservation):
        """Each observation's words [b l d], its part of the condition [b d], and which words there are [b l].

        No instruction (-1) is a row of zeros: no words to look at, nothing added to the condition.
        """
        prompt, text = observation.prompt, observation.text
        given = (prompt >= 0)[:, None]
        if text is not None:
            words, summary = text.words[prompt].astype(self.config.model.dtype), text.summary[prompt]
            words = self.text_projection(words) * given[..., None]
            summary = self.condition_text(summary.astype(words.dtype)) * given
        else:
            # The encoder learns: a product with a one-hot matrix rather than a gather, whose gradient is a scatter.
            text = self.encode_text(observation.tokens)
            words = self.text_projection(text.words)
            asked = jax.nn.one_hot(prompt, len(observation.tokens), dtype=words.dtype)
            words, summary = jnp.einsum("bu,uld->bld", asked, words), asked @ self.condition_text(text.summary)
        return words, summary, text.mask[prompt] & given

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

    def __call__(self, observation: ModelObservation, noise, time):
        return self.generate(self.encode(observation), noise, time)


def make_vision(config: ConfigDict) -> nn.Module:
    """The image encoder of ``config.model.vision``: uint8 [n size size 3] -> [n tokens e]."""
    m, v, dtype = config.model, config.model.vision, jnp.dtype(config.model.dtype)
    if is_pretrained(config, "vision"):
        return DINOv2(pretrained.load_architecture(v.name), v.image_size, v.pool, v.lora, m.remat, dtype)
    return encoder_class("vision", v.name).of(m, dtype)


def make_text(config: ConfigDict) -> nn.Module:
    """The text encoder of ``config.model.text``: token ids [u l] -> ``Text``."""
    m, t, dtype = config.model, config.model.text, jnp.dtype(config.model.dtype)
    if is_pretrained(config, "text"):
        return ClipText(pretrained.load_architecture(t.name), t.lora, m.remat, dtype)
    return encoder_class("text", t.name).of(m, dtype)
