"""AdamW, or Muon for the matrices, with warm-up and cosine counted in optimiser steps; clipping; a rate for encoders.

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


MUON_RMS = 0.2  # of an update before the rate: AdamW's own, so that one rate serves both (Liu et al., arXiv 2502.16982)


def muon_dimensions(path: tuple, leaf) -> optax.contrib.MuonDimensionNumbers | None:
    """Which axes of a parameter are a matrix's rows and columns: of every kernel the last is what comes out, and what is
    stacked along a first axis are matrices of their own. None: no matrix, AdamW's."""
    name = path_name(path)
    if not name.endswith("/kernel"):
        return None
    first = int("/blocks/" in name)
    return optax.contrib.MuonDimensionNumbers(tuple(range(first, leaf.ndim - 1)), (leaf.ndim - 1,))


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The whole update: clip, AdamW or Muon (decay on matrices only), then each part's share of the learning rate."""
    t = config.train

    def decayed(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).split("/")[-1] in MATRICES, params)

    if t.optimizer == "muon":
        update = optax.contrib.muon(
            schedule(config),
            weight_decay=t.weight_decay,
            adam_b1=t.b1,
            adam_b2=t.b2,
            consistent_rms=MUON_RMS,
            muon_weight_dimension_numbers=lambda params: jax.tree_util.tree_map_with_path(muon_dimensions, params),
        )
    else:
        update = optax.adamw(schedule(config), b1=t.b1, b2=t.b2, weight_decay=t.weight_decay, mask=decayed)

    def scale(path):
        part = path_name(path).split("/")[0]
        return t.lr_scale.get(part, 1.0)  # only encoders have one

    def scaled(updates, _):
        return jax.tree_util.tree_map_with_path(lambda path, u: u * scale(path), updates)

    return optax.chain(
        optax.clip_by_global_norm(t.clip_norm),
        update,
        optax.stateless(scaled),
    )
