"""What an encoder that is trained from scratch is: a flax module, built from the configuration's section ``model``.

``models.vla`` calls it once per observation or instruction; ``registry.py`` finds it by name or import path. Pretrained encoders
(``dinov2.py``, ``clip_text.py``) are built from the architecture that their weights come with instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class Encoder(nn.Module):
    """An image encoder maps uint8 [n, size, size, 3] to features [n, tokens, e]; a text encoder token ids int32 [u, l], which are
    bytes + 1 and 0 for padding (``tokenizers.ByteTokenizer``), to ``types.Text``."""

    @classmethod
    def of(cls, model: Any, dtype: jnp.dtype) -> Encoder:
        """Builds it from ``config.model``; a section of its own stands in ``config.model.vision`` or ``config.model.text``.

        Raises:
          SettingsError: its settings cannot be meant.
        """
        raise NotImplementedError

    @classmethod
    def problems(cls, model: Any, image_size: int) -> Iterator[str]:
        """What is wrong with its settings, a line each, before anything is computed; views have ``image_size`` pixels a side."""
        cls.of(model, jnp.dtype(model.dtype))
        return iter(())
