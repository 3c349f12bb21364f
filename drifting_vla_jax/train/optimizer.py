"""AdamW with warm-up and cosine, counted in optimiser steps; clipping; frozen encoders get no state at all."""

from __future__ import annotations

import jax
import optax
from ml_collections import ConfigDict

from drifting_vla_jax.train.sharding import path_name


def schedule(config: ConfigDict) -> optax.Schedule:
    """Linear from 0 to the peak, then cosine to ``final_lr_fraction`` of it at the last step."""
    t = config.train
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=t.learning_rate,
        warmup_steps=t.warmup_steps,
        decay_steps=t.steps,
        end_value=t.learning_rate * t.final_lr_fraction,
    )


def trainable(params, config: ConfigDict):
    """A pytree of booleans: False on the parameters of a frozen encoder."""
    frozen = [name for name in ("vision", "text") if config.model[name].freeze]
    return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).split("/")[0] not in frozen, params)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The whole update: clip, AdamW (decay on matrices only), zero for what is frozen."""
    t = config.train

    def decayed(params):
        return jax.tree.map(lambda p: p.ndim > 1, params)

    adamw = optax.chain(
        optax.clip_by_global_norm(t.clip_norm),
        optax.adamw(schedule(config), b1=t.b1, b2=t.b2, weight_decay=t.weight_decay, mask=decayed),
    )

    def labels(params):
        return jax.tree.map(lambda yes: "train" if yes else "freeze", trainable(params, config))

    return optax.partition({"train": adamw, "freeze": optax.set_to_zero()}, labels)
