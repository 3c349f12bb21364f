"""Encoders by name, or from outside the package by import path.

config.model.vision.name = "vit"                     trained from scratch, of the table below
config.model.vision.name = "my_lab.my_file:MyViT"    trained from scratch, a class derived from ``base.Encoder``
config.model.vision.name = "facebook/dinov2-base"    pretrained: any other name is a hub id or a folder (``pretrained/load.py``)
"""

from __future__ import annotations

from ml_collections import ConfigDict

from drifting_vla_jax.core.registry import PluginError, is_path, load
from drifting_vla_jax.models.encoders.base import Encoder

ENCODERS = {
    "vision": {"vit": "drifting_vla_jax.models.encoders.vit:ViT"},
    "text": {"bytes": "drifting_vla_jax.models.encoders.byte_text:ByteText"},
}


def is_pretrained(config: ConfigDict, part: str) -> bool:
    """Whether "vision" or "text" is an encoder that others trained; no other part of the network is."""
    return part in ENCODERS and not (config.model[part].name in ENCODERS[part] or is_path(config.model[part].name))


def is_frozen(config: ConfigDict, part: str) -> bool:
    """Whether an encoder's outputs never change, so that they can be computed once and kept."""
    return is_pretrained(config, part) and part in config.train.freeze and not config.model[part].lora


def encoder_class(part: str, name: str) -> type[Encoder]:
    """The class of an encoder that is trained from scratch.

    Args:
      part: "vision" or "text".

    Raises:
      PluginError: there is no such class.
    """
    cls = load(f"{part} encoder", ENCODERS[part], name)
    if not (isinstance(cls, type) and issubclass(cls, Encoder)):
        raise PluginError(f"{part} encoder {name!r} is no class derived from {Encoder.__module__}.Encoder")
    return cls
