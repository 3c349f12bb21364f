"""The network of a configuration with random weights in its true shapes, and everything that acts or trains with it.

Time does not depend on the values, and weights cannot be fetched on every machine that measures; so these are a block of
random numbers, over and over.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.models.encoders.registry import ENCODERS, is_frozen, is_pretrained
from drifting_vla_jax.models.encoders.transformer import layer_by_layer
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.models.tokenizers import ClipTokenizer, make_tokenizer, write_alphabet
from drifting_vla_jax.policy.policy import Network, Policy
from drifting_vla_jax.policy.restore import RestoredPolicy
from drifting_vla_jax.train.checkpoint import Assets
from drifting_vla_jax.train.partition import is_frozen_pretrained
from drifting_vla_jax.train.state import init_params
from drifting_vla_jax.types import Text, views

PROMPT = "close the red jar"


def at_precision(config: ConfigDict, dtype: str, **changes) -> ConfigDict:
    """A copy that computes in ``dtype``, frozen encoders' weights included; ``changes`` are keys as "train_steps" or
    "train.steps" would have it, dots as double underscores: ``model__width=64``."""
    config = copy.deepcopy(config).unlock()
    config.model.dtype = config.model.frozen_dtype = dtype
    for key, value in changes.items():
        *sections, name = key.split("__")
        section = functools.reduce(lambda part, name: part[name], sections, config)
        section[name] = value
    return config.lock()


def random_like(shapes, config: ConfigDict) -> dict:
    """Parameters of these shapes: frozen encoders' in their dtype, the others float32."""
    block = 0.02 * np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    frozen = jnp.dtype(config.model.frozen_dtype)
    flat = {}
    for path, leaf in flatten_dict(shapes, sep="/").items():
        values = np.resize(block, leaf.shape) + path.endswith("scale")
        flat[path] = jnp.asarray(values, frozen if is_frozen_pretrained(path, config) else jnp.float32)
    return unflatten_dict(flat, sep="/")


def params_of(config: ConfigDict) -> dict:
    """All parameters of the network, encoders included, on the device, laid out as ``train.frozen_encoders`` does it."""
    params = random_like(jax.eval_shape(lambda: init_params(config, jax.random.key(0))), config)
    if jax.default_backend() == "cpu":
        params |= {p: layer_by_layer(params[p]) for p in ENCODERS if is_frozen(config, p)}
    return params


def observation_of(config: ConfigDict, seed: int = 0, prompt: str = PROMPT) -> dict:
    """An observation as a client sends it."""
    rng, size = np.random.default_rng(seed), config.env.image_size
    return {
        "images": {camera: rng.integers(0, 256, (size, size, 3), np.uint8) for camera in config.env.cameras},
        "state": rng.standard_normal(config.env.state_dim).astype(np.float32),
        "prompt": prompt,
        "seed": seed,
    }


def actions_of(config: ConfigDict) -> ActionNormalizer:
    """Statistics of made-up demonstrations."""
    rng, rows = np.random.default_rng(0), 4 * config.action.horizon
    actions = rng.standard_normal((rows, 8), np.float32)
    actions[:, 3:7] /= np.linalg.norm(actions[:, 3:7], axis=1, keepdims=True)
    state = rng.standard_normal((rows, config.env.state_dim), np.float32)
    last = np.full(rows, rows - 1)
    return ActionNormalizer.fit(state, actions, np.arange(rows), last, config.action.horizon, config.action.frame)


def assets_of(config: ConfigDict, encoders: dict[str, str] | None = None) -> Assets:
    """What a checkpoint of such a run knows besides its weights."""
    names = tuple(f"s{i}" for i in range(config.env.state_dim))
    return Assets(config, actions_of(config), (PROMPT,), 20.0, names, encoders or {})


def tokenizer_of(config: ConfigDict):
    """The configuration's tokenizer; in place of a vocabulary that would have to be fetched one of single letters."""
    if not is_pretrained(config, "text"):
        return make_tokenizer(config)
    with tempfile.TemporaryDirectory() as folder:
        write_alphabet(Path(folder), pretrained.load_architecture(config.model.text.name).end)
        return ClipTokenizer(Path(folder), config.data.max_tokens)


def policy_of(config: ConfigDict, params: dict, batch_sizes: tuple[int, ...] = (1,)) -> Policy:
    """A policy of these weights, as ``policy.restore`` makes one of a checkpoint's."""
    trained = RestoredPolicy(assets_of(config), params, 0)
    act, encode = jax.jit(trained.act), jax.jit(trained.encode_text)
    network = Network(functools.partial(encode, params), functools.partial(act, params))
    return Policy(network, tokenizer_of(config), trained.assets.actions, trained.metadata(), batch_sizes)


def encoded_of(config: ConfigDict, b: int) -> dict:
    """What the encoders make of b observations, of the right shapes: ``features`` and ``text`` of an ``Observation``."""
    rng, size = np.random.default_rng(0), config.env.image_size
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    from drifting_vla_jax.models.vla import make_text, make_vision

    images = jax.ShapeDtypeStruct((b * views(config), size, size, 3), jnp.uint8)
    tokens = jax.ShapeDtypeStruct((b, config.data.max_tokens), jnp.int32)
    seen = jax.eval_shape(make_vision(config).apply, {"params": shapes["vision"]}, images)
    said = jax.eval_shape(make_text(config).apply, {"params": shapes["text"]}, tokens)

    def draw(x):
        return jnp.asarray(rng.standard_normal(x.shape, np.float32), x.dtype)

    features = draw(seen).reshape(b, views(config), *seen.shape[1:])
    return {"features": features, "text": Text(draw(said.words), draw(said.summary), jnp.ones(said.mask.shape, bool))}
