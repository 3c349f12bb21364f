"""The axis legend, and the typed pytrees that cross boundaries.

b batch of observations   v camera views        c channels          n context tokens   l text tokens
u distinct instructions   h action horizon      a action dims       s state dims       d width
g samples per observation p positives           q negatives         t temperatures     z noise dims
"""

from __future__ import annotations

import jax
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

ACTION_DIM = 8  # at every boundary: x y z, qx qy qz qw, gripper
NETWORK_ACTION_DIM = 10  # inside the network: x y z, rotation as the first two columns of its matrix, gripper
ACTION_PARTS = {"position": slice(0, 3), "rotation": slice(3, 9), "gripper": slice(9, 10)}  # of the network's action
GROUPINGS = ("chunk", "step", "dim", "block")  # which entries of a chunk drift together: objectives/grouping.py
FRAMES = ("relative", "absolute")  # positions in the network: from the present end effector, or in the world


@struct.dataclass
class Observation:
    """What the network sees of b observations.

    Attributes:
      images: views in the order of ``config.env.cameras``, RGB.
      state: proprioception, normalised.
      tokens: the distinct instructions of this batch as token ids, 0 = padding; each is encoded once.
      prompt: which of the u instructions each observation was given; -1: none.
    """

    images: UInt8[Array, "b v height width 3"]
    state: Float[Array, "b s"]
    tokens: Int[Array, "u l"]
    prompt: Int[Array, " b"]


@struct.dataclass
class Batch:
    """What a training step is given.

    Attributes:
      observation: see ``Observation``.
      target: the expert chunk in network units (``data/actions.py``).
      mask: 1 where the target counts, 0 on steps past the episode's end and on constant dimensions.
      task: index into ``config.env.tasks``.
    """

    observation: Observation
    target: Float[Array, "b h a"]
    mask: Float[Array, "b h a"]
    task: Int[Array, " b"]


def fake_batch(config: ConfigDict, batch_size: int, prompts: int, seed: int = 0) -> Batch:
    """A batch of the right shapes and random numbers, for shape inference, warm-up and tests."""
    rng = np.random.default_rng(seed)
    b, h, size = batch_size, config.action.horizon, config.env.image_size
    return Batch(
        observation=Observation(
            images=rng.integers(0, 256, (b, len(config.env.cameras), size, size, 3), np.uint8),
            state=rng.standard_normal((b, config.env.state_dim), np.float32),
            tokens=rng.integers(1, 257, (prompts, config.data.max_tokens), np.int32),
            prompt=rng.integers(0, prompts, (b,), np.int32),
        ),
        target=rng.standard_normal((b, h, NETWORK_ACTION_DIM), np.float32),
        mask=np.ones((b, h, NETWORK_ACTION_DIM), np.float32),
        task=rng.integers(0, len(config.env.tasks), (b,), np.int32),
    )


def abstract(tree):
    """The shapes and dtypes of a pytree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)
