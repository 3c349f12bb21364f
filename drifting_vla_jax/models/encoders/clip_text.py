"""The text tower of CLIP (Radford et al., arXiv 2103.00020): token ids -> a feature per token and one per instruction.

Architecture and parameter meanings are those of the checkpoints ``openai/clip-vit-*``; ``models/pretrained/convert.py`` reads
them. The summary is the last layer's feature at the end-of-text token, before CLIP's projection into the space it shares with
images. Tokens after the end are padding: causal attention keeps them from the others, the mask keeps them from readers.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from drifting_vla_jax.models.encoders.transformer import TransformerEncoder
from drifting_vla_jax.models.layers import EMBEDDING_INIT
from drifting_vla_jax.types import Text


@dataclass(frozen=True)
class ClipTextArchitecture:
    """Sizes of one checkpoint.

    Attributes:
      length: positions it knows: the longest instruction, in tokens.
      end: id of the end-of-text token.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    activation: str = "quick_gelu"
    vocabulary: int = 49408
    length: int = 77
    end: int = 49407
    epsilon: float = 1e-5

    @classmethod
    def from_hugging_face(cls, c: dict) -> ClipTextArchitecture:
        """From the contents of a checkpoint's config.json, of the whole CLIP or of its text tower alone.

        What it leaves out has the format's default, which is OpenAI's B/32.
        """
        c = c.get("text_config", c)
        base = cls(width=512, depth=12, heads=8, hidden=2048)
        vocabulary, end = c.get("vocab_size", base.vocabulary), c.get("eos_token_id", base.end)
        return cls(
            width=c.get("hidden_size", base.width),
            depth=c.get("num_hidden_layers", base.depth),
            heads=c.get("num_attention_heads", base.heads),
            hidden=c.get("intermediate_size", base.hidden),
            activation=c.get("hidden_act", base.activation),
            vocabulary=vocabulary,
            length=c.get("max_position_embeddings", base.length),
            end=vocabulary - 1 if end == 2 else end,  # OpenAI's files say 2 and mean the largest id, the last there is
            epsilon=c.get("layer_norm_eps", base.epsilon),
        )


ARCHITECTURES = {
    "openai/clip-vit-base-patch32": ClipTextArchitecture(512, 12, 8, 2048),
    "openai/clip-vit-base-patch16": ClipTextArchitecture(512, 12, 8, 2048),
    "openai/clip-vit-large-patch14": ClipTextArchitecture(768, 12, 12, 3072),
}


class ClipText(nn.Module):
    """The encoder; ``lora``, ``remat``, ``dtype`` as in ``transformer.TransformerEncoder``."""

    architecture: ClipTextArchitecture
    lora: int
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens: Int[Array, "u l"]) -> Text:
        """Token ids as ``models.tokenizers.ClipTokenizer`` makes them.

        Raises:
          ValueError: more tokens than the encoder has positions.
        """
        a = self.architecture
        if tokens.shape[1] > a.length:
            raise ValueError(f"{tokens.shape[1]} tokens for a text encoder of {a.length} positions (data.max_tokens)")
        embed = nn.Embed(a.vocabulary, a.width, embedding_init=EMBEDDING_INIT, dtype=self.dtype, name="embed")
        position = self.param("position", EMBEDDING_INIT, (a.length, a.width))
        x = embed(tokens) + position[: tokens.shape[1]].astype(self.dtype)
        self.sow("intermediates", "embedded", x)
        options = {"layer_scale": False, "causal": True, "lora": self.lora, "remat": self.remat, "dtype": self.dtype}
        x = TransformerEncoder(a.depth, a.heads, a.hidden, a.activation, epsilon=a.epsilon, **options, name="tower")(x)
        x = nn.LayerNorm(a.epsilon, dtype=self.dtype, use_fast_variance=False, name="norm")(x)
        end = jnp.argmax(tokens == a.end, axis=1)  # the first; the padding is made of it too
        summary = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        return Text(x, summary, jnp.arange(tokens.shape[1]) <= end[:, None])
