"""Augmentation of pictures: drawn on the host, four numbers a view; carried out on the device, where it costs nothing.

A view's jitter is (pixels moved down, pixels moved right, gain, offset): the picture moves with its edge repeated, then
every value v becomes gain * v + offset, cut to 0 .. 255 and rounded down.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from drifting_vla_jax.types import ModelObservation


def jitter_of(data: ConfigDict, unit: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Shift, contrast and brightness as strong as ``config.data`` has them at most, from random numbers in 0 .. 1."""
    move = np.floor((2 * data.shift + 1) * unit[..., :2]) - data.shift
    gain = 1 + data.contrast * (2 * unit[..., 2:3] - 1)
    offset = 255 * data.brightness * (2 * unit[..., 3:] - 1) + 127.5 * (1 - gain)
    return np.concatenate([move, gain, offset], axis=-1).astype(np.float32)


def augmented(observation: ModelObservation) -> ModelObservation:
    """The observation with its images jittered as it says, if it says so."""
    if observation.jitter is None or observation.images is None:
        return observation
    return observation.replace(images=jittered(observation.images, observation.jitter), jitter=None)


def jittered(
    images: UInt8[Array, "b v height width 3"], jitter: Float[Array, "b v 4"]
) -> UInt8[Array, "b v height width 3"]:
    """Every view moved and changed by its own four numbers."""
    moves = jitter[..., :2].astype(jnp.int32)
    for axis in (2, 3):
        size = images.shape[axis]
        from_ = jnp.clip(jnp.arange(size) - moves[..., axis - 2, None], 0, size - 1)  # [b v size]
        shape = (*from_.shape[:2], *(size if a == axis else 1 for a in (2, 3, 4)))
        images = jnp.take_along_axis(images, from_.reshape(shape), axis=axis)
    gain, offset = (jitter[..., i, None, None, None] for i in (2, 3))
    return jnp.clip(images * gain + offset, 0, 255).astype(jnp.uint8)
