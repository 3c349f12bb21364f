"""The encoders as transformers has them, in torch: random weights, saved the way the hub's checkpoints are."""

from pathlib import Path

import jax
import numpy as np
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    initialization,
)
from transformers.utils import logging

from drifting_vla_jax.models import pretrained

logging.set_verbosity_error()
logging.disable_progress_bar()

# An epsilon so large that it shows.
SHRUNK = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "layer_norm_eps": 0.01}
SHRUNK_TEXT = {**SHRUNK, "intermediate_size": 96, "vocab_size": 60, "eos_token_id": 59, "bos_token_id": 58}
SHRUNK_IMAGE = {**SHRUNK, "patch_size": 14, "image_size": 70}  # a grid of 5 x 5
TRUE_IMAGE = {"patch_size": 14, "image_size": 518}


def dinov2(registers: int = 0, **config):
    """A DINOv2 in torch, with registers if any are asked for."""
    if registers:
        config = Dinov2WithRegistersConfig(**config, num_register_tokens=registers)
        return _drawn(Dinov2WithRegistersModel, config)
    return _drawn(Dinov2Model, Dinov2Config(**config))


def clip_text(**config):
    """A CLIP text tower in torch."""
    return _drawn(CLIPTextModel, CLIPTextConfig(**config))


def _drawn(model, config):
    with initialization.no_init_weights():
        return draw(model(config).eval())


def draw(model, seed: int = 0):
    """Draws every parameter, also those that start at 0 or 1 elsewhere: none can be forgotten and go unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False).normal_(generator=generator)
        if "embedding" in name and "projection" not in name:
            parameter.mul_(0.5)
        elif parameter.ndim > 1:
            parameter.mul_(parameter[0].numel() ** -0.5)
        else:
            parameter.mul_(0.3).add_(0 if name.endswith("bias") else 1)
    return model


def saved(model, folder: Path, **options) -> str:
    """The directory of the model's checkpoint, as text: a name for ``pretrained``."""
    model.save_pretrained(folder, **options)
    return str(folder)


def run(module, encoder: pretrained.Encoder, x):
    """The module's output, and what each layer hands on, the embeddings first."""
    apply = jax.jit(lambda params, x: module.apply({"params": params}, x, mutable=["intermediates"]))
    out, state = jax.device_get(apply(encoder.tree(), x))
    state = state["intermediates"]
    return out, [*state["embedded"], *state["tower"]["blocks"]["hidden"][0]]


def worst(ours, theirs) -> float:
    """The largest error, relative to the root mean square of what it should be; of lists, over all their members."""
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        return max(worst(a, b) for a, b in zip(ours, theirs))
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.sqrt(np.square(theirs).mean()))
