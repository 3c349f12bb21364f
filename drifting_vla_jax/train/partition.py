"""Which parameters are learned, which are saved, and which are borrowed.

    learned    get gradients and optimiser state: all but the parts in ``config.train.freeze``; of those, LoRA adapters
    kept       are in the train state and its checkpoints, learned or not
    borrowed   belong to a frozen pretrained encoder: beside the state, never saved, known by their hash

The network itself knows nothing of this: it is applied to all three put together.
"""

from __future__ import annotations

from collections.abc import Callable

from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from drifting_vla_jax.models.encoders.registry import is_pretrained


def is_trainable(path: str, config: ConfigDict) -> bool:
    """Whether the parameter at "vision/tower/blocks/query/kernel" is trained."""
    return path.split("/")[0] not in config.train.freeze or "/lora_" in path


def is_frozen_pretrained(path: str, config: ConfigDict) -> bool:
    """Whether it is a weight of a frozen pretrained encoder."""
    return is_pretrained(config, path.split("/")[0]) and not is_trainable(path, config)


def split(params: dict, wanted: Callable[[str], bool]) -> tuple[dict, dict]:
    """(what is wanted by its path, the rest), each a nested dict."""
    flat = flatten_dict(params, sep="/")
    yes = {path: leaf for path, leaf in flat.items() if wanted(path)}
    no = {path: leaf for path, leaf in flat.items() if path not in yes}
    return unflatten_dict(yes, sep="/"), unflatten_dict(no, sep="/")


def split_learned(params: dict, config: ConfigDict) -> tuple[dict, dict]:
    return split(params, lambda path: is_trainable(path, config))


def merge(*trees: dict) -> dict:
    """One nested dict of disjoint ones."""
    flat = {}
    for tree in trees:
        flat |= flatten_dict(tree, sep="/")
    return unflatten_dict(flat, sep="/")
