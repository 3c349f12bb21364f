"""AdamW with warm-up and cosine, counted in optimiser steps; clipping; a rate of their own for encoders.

It is given what is learned and nothing else (``partition``), so what is frozen has no state at all.
"""

from __future__ import annotations

import jax
import optax
from ml_collections import ConfigDict

from drifting_vla_jax.train.sharding import path_name

# By name: stacked layers give vectors a second axis.
MATRICES = ("kernel", "embedding", "position", "view_embedding", "step_embedding", "lora_down", "lora_up")


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


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The whole update: clip, AdamW (decay on matrices only), then each part's share of the learning rate."""
    t = config.train

    def decayed(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).split("/")[-1] in MATRICES, params)

    def scale(path):
        part = path_name(path).split("/")[0]
        return t.lr_scale.get(part, 1.0)  # only encoders have one

    def scaled(updates, _):
        return jax.tree_util.tree_map_with_path(lambda path, u: u * scale(path), updates)

    return optax.chain(
        optax.clip_by_global_norm(t.clip_norm),
        optax.adamw(schedule(config), b1=t.b1, b2=t.b2, weight_decay=t.weight_decay, mask=decayed),
        optax.stateless(scaled),
    )
