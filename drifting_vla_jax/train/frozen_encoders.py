"""Pretrained encoders at work in a run: read, checked against the checkpoint, put on the devices.

A frozen encoder stands beside the train state. A frozen text encoder is not even there in training: what it makes of the
data set's instructions is computed once, as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict

from drifting_vla_jax.models.encoders.registry import ENCODERS, is_frozen, is_pretrained
from drifting_vla_jax.models.encoders.transformer import layer_by_layer
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.models.pretrained.load import Encoder
from drifting_vla_jax.models.tokenizers import make_tokenizer
from drifting_vla_jax.models.vla import make_text
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.partition import is_frozen_pretrained, split
from drifting_vla_jax.types import Text

_AT_ONCE = 64  # instructions encoded in one call


@struct.dataclass
class FrozenInputs:
    """What a step reads besides its state and its batch.

    Attributes:
      params: of frozen pretrained encoders, at their places in the network's parameters.
      text: what a frozen text encoder makes of every instruction of the data set; None if the network encodes them.
    """

    params: dict
    text: Text | None = None


NO_FROZEN_INPUTS = FrozenInputs({})


def load_encoders(config: ConfigDict) -> dict[str, Encoder]:
    """The pretrained encoders that a configuration names, on the host, "vision" and "text".

    Raises:
      HubError, FileNotFoundError, ConversionError: an encoder is not there, or is not what it says it is.
    """
    return {part: pretrained.load(config.model[part].name) for part in ENCODERS if is_pretrained(config, part)}


def identities(encoders: Mapping[str, Encoder]) -> dict[str, str]:
    """What a checkpoint remembers of the encoders: "scratch" or the hash of their weights."""
    return {part: encoders[part].hash if part in encoders else "scratch" for part in ENCODERS}


def check_identities(encoders: Mapping[str, Encoder], remembered: Mapping[str, str]) -> None:
    """Raises ValueError if these are not the encoders that a checkpoint was trained with."""
    for part, now in identities(encoders).items():
        if now != remembered[part]:
            name = encoders[part].source if part in encoders else "one trained from scratch"
            raise ValueError(
                f"the checkpoint was trained with a {part} encoder of hash {remembered[part]}; {name} is {now}: "
                f"bring the same weights (--{part}_weights=DIR)"
            )


def frozen_params(config: ConfigDict, encoders: Mapping[str, Encoder]) -> dict:
    """The frozen weights as nested dicts of numpy arrays, in ``config.model.frozen_dtype``."""
    whole = {part: encoder.tree() for part, encoder in encoders.items()}
    frozen, _ = split(whole, lambda path: is_frozen_pretrained(path, config))
    return jax.tree.map(lambda x: np.asarray(x, jnp.dtype(config.model.frozen_dtype)), frozen)


def place_frozen_encoders(
    config: ConfigDict, encoders: Mapping[str, Encoder], mesh: Mesh, instructions: Sequence[str] | None
) -> FrozenInputs:
    """Puts on every device what a run needs of its frozen encoders.

    Args:
      instructions: all of the data set, encoded here if the text encoder is frozen; None: a policy, which encodes
        what it is told.
    """
    params, text = frozen_params(config, encoders), None
    if mesh.devices.flat[0].platform == "cpu":  # adapters lie in a stack like the weights that they belong to
        params = {p: tree if config.model[p].lora else layer_by_layer(tree) for p, tree in params.items()}
    if instructions is not None and is_frozen(config, "text"):
        text = encode_instructions(config, params.pop("text"), make_tokenizer(config)(instructions))
    if instructions is not None and config.data.features:
        params.pop("vision")  # its outputs are read from disk
    beside = FrozenInputs(params, text)
    return jax.tree.map(jax.device_put, beside, _shardings(beside, mesh, config))


def _shardings(beside: FrozenInputs, mesh: Mesh, config: ConfigDict) -> FrozenInputs:
    """On every device whole; the weights split like others if ``config.mesh.split_frozen``."""
    everywhere = jax.tree.map(lambda _: sharding.replicated(mesh), beside)
    if not config.mesh.split_frozen:
        return everywhere
    return everywhere.replace(params=sharding.state_sharding(beside.params, mesh, config))


def encode_instructions(config: ConfigDict, params: dict, tokens: Int[np.ndarray, "u l"]) -> Text:
    """What the text encoder makes of each instruction, on the host."""
    encode = jax.jit(make_text(config).apply)
    params, size = jax.device_put({"params": params}), min(_AT_ONCE, len(tokens))
    parts = []
    for start in range(0, len(tokens), size):
        some = np.resize(tokens[start : start + size], (size, tokens.shape[1]))
        parts.append(jax.device_get(encode(params, some)))
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(tokens)], *parts)


def abstract_frozen_inputs(config: ConfigDict, params: dict, mesh: Mesh, instructions: int) -> FrozenInputs:
    """Shapes and shardings of ``place_frozen_encoders``'s result, for who only compiles.

    Args:
      params: shapes of all parameters of the network.
      instructions: how many the data set has.
    """
    frozen, _ = split(params, lambda path: is_frozen_pretrained(path, config))
    dtype, text = jnp.dtype(config.model.frozen_dtype), None
    if is_frozen(config, "text"):
        tokens = jax.ShapeDtypeStruct((instructions, config.data.max_tokens), jnp.int32)
        text = jax.eval_shape(make_text(config).apply, {"params": frozen.pop("text")}, tokens)
    if config.data.features:
        frozen.pop("vision")
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), frozen)
    beside = FrozenInputs(frozen, text)
    where = _shardings(beside, mesh, config)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), beside, where)
