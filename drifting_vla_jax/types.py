"""The axis legend, and the typed pytrees that cross boundaries.

b batch of observations   v camera views        c channels          n context tokens   l text tokens
u distinct instructions   h action horizon      a action dims       s state dims       d width      e encoder width
g samples per observation p positives           q negatives         t temperatures     z noise dims
k action dims at a boundary: 8 of an end effector, for which a is 10 (``core/action_layout.py``)
"""

from __future__ import annotations

from pathlib import PurePath

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8
from ml_collections import ConfigDict

REMAT = ("none", "dots", "full")  # what a block keeps for its backward pass: everything, products, its input alone
OPTIMIZERS = ("adamw", "muon")
SELECTION_RULES = ("first", "nearest_mean")  # which of several samples acts: policy/sampling.py
FRAMES = ("relative", "absolute")  # positions in the network: from the present end effector, or in the world


@struct.dataclass
class Text:
    """u instructions, encoded.

    Attributes:
      words: a feature per token.
      summary: one per instruction.
      mask: False on padding.
    """

    words: Float[Array, "u l e"]
    summary: Float[Array, "u e"]
    mask: Bool[Array, "u l"]


@struct.dataclass
class ModelObservation:
    """What the network sees of b observations: images or what an encoder made of them, instructions likewise.

    Attributes:
      images: views in the order of ``config.env.cameras``, RGB; with ``config.model.history`` all views of the oldest
        time step first. None if ``features`` are given.
      state: proprioception, normalised.
      prompt: which of the u instructions each observation was given; -1: none.
      tokens: the distinct instructions as token ids; each is encoded once. None if ``text`` is given.
      features: of a frozen image encoder, stored beforehand.
      text: of a frozen text encoder, or of a policy that remembers its instructions.
      jitter: how each view is to be changed before the network sees it, in training (``data/augment.py``).
      seen: which views there are: the network looks at no other, whatever its image. None: all, as wherever there is
        one data set; of a mixture some sets may lack some cameras.
    """

    images: UInt8[Array, "b v height width 3"] | None
    state: Float[Array, "b s"]
    prompt: Int[Array, " b"]
    tokens: Int[Array, "u l"] | None = None
    features: Float[Array, "b v n e"] | None = None
    text: Text | None = None
    jitter: Float[Array, "b v 4"] | None = None
    seen: Bool[Array, "b v"] | None = None


@struct.dataclass
class Batch:
    """What a training step is given.

    Attributes:
      observation: see ``ModelObservation``.
      target: the expert chunk in network units (``data/normalization.py``).
      mask: 1 where the target counts, 0 on steps past the episode's end and on constant dimensions.
      task: index into ``config.env.tasks``.
    """

    observation: ModelObservation
    target: Float[Array, "b h a"]
    mask: Float[Array, "b h a"]
    task: Int[Array, " b"]


def augments(config: ConfigDict) -> bool:
    """Whether training changes the pictures that the network sees."""
    d = config.data
    return bool(d.shift or d.brightness or d.contrast) and not d.features


def is_mixture(config: ConfigDict) -> bool:
    """Whether several data sets are trained on together, so that views may be missing."""
    return bool(config.data.mixture.paths)


def set_names(config: ConfigDict) -> tuple[str, ...]:
    """What the sets of a mixture are called: the last parts of their paths."""
    return tuple(PurePath(path).name for path in config.data.mixture.paths)


def views(config: ConfigDict) -> int:
    """v: images in an observation, earlier ones included."""
    return len(config.env.cameras) * (1 + config.model.history)


def abstract(tree):
    """The shapes and dtypes of a pytree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)
