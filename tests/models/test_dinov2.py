"""DINOv2 against transformers' in torch: every layer, every size, image sizes it was not trained on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from drifting_vla_jax.models import pretrained
from drifting_vla_jax.models.dinov2 import DinoArchitecture, DINOv2
from tests.models import reference

SIZES = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
TOLERANCE = 5e-5
ARCHITECTURE = DinoArchitecture(width=24, depth=1, heads=2, hidden=48, activation="gelu", grid=4)


def photographs(height, width, n=2):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


def module(architecture=ARCHITECTURE, size=0, pool=1, remat="none", dtype=jnp.float32):
    return DINOv2(architecture, size, pool, lora=0, remat=remat, dtype=dtype)


@pytest.fixture(scope="module")
def variables():
    """Parameters for ``ARCHITECTURE``."""
    return jax.jit(module().init)(jax.random.key(0), photographs(28, 28))


def name_of(size, registers):
    return f"facebook/dinov2-{'with-registers-' if registers else ''}{size}"


def parity(model, encoder, images):
    """The largest relative error of any layer and of the output."""
    pixels = (images / 255 - IMAGENET_DEFAULT_MEAN) / IMAGENET_DEFAULT_STD
    pixels = torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2)
    theirs = model(pixels, output_hidden_states=True)
    out, layers = reference.run(module(encoder.architecture), encoder, images)
    kept = [0, *range(1 + encoder.architecture.registers, theirs.last_hidden_state.shape[1])]
    assert len(layers) == 1 + encoder.architecture.depth
    return max(
        reference.worst(layers, list(theirs.hidden_states)), reference.worst(out, theirs.last_hidden_state[:, kept])
    )


@pytest.mark.parametrize(
    "sizes",
    [{}, {"registers": 4}, {"use_swiglu_ffn": True}, {"hidden_act": "quick_gelu"}],
    ids=["gelu", "registers", "swiglu", "quick_gelu"],
)
def test_equals_the_reference(sizes, tmp_path):
    """On the grid it was trained on, a smaller one and a larger one that are not square."""
    model = reference.dinov2(**reference.SHRUNK_IMAGE, **sizes)
    encoder = pretrained.load(reference.saved(model, tmp_path))
    for height, width in ((70, 70), (28, 56), (112, 84)):
        assert parity(model, encoder, photographs(height, width)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "registers"),
    [*((size, 0) for size in SIZES), ("small", 4)],
    ids=[*(f"{size}-plain" for size in SIZES), "small-registers"],
)
def test_equals_the_reference_at_true_size(size, registers, tmp_path):
    model = reference.dinov2(registers, **SIZES[size], **reference.TRUE_IMAGE)
    encoder = pretrained.load(reference.saved(model, tmp_path))
    assert encoder.architecture == pretrained.KNOWN[name_of(size, registers)]
    for pixels in (224, 280):
        error = parity(model, encoder, photographs(pixels, pixels, n=1))
        print(f"{name_of(size, registers)} at {pixels} px: {error:.2e}")
        assert error < TOLERANCE


@pytest.mark.slow
def test_one_layer_of_the_giant_equals_the_reference(tmp_path):
    model = reference.dinov2(**{**GIANT, "num_hidden_layers": 1}, **reference.TRUE_IMAGE)
    encoder = pretrained.load(reference.saved(model, tmp_path))
    assert encoder.architecture == dataclasses.replace(pretrained.KNOWN["facebook/dinov2-giant"], depth=1)
    error = parity(model, encoder, photographs(224, 224, n=1))
    print(f"one layer of the giant at 224 px: {error:.2e}")
    assert error < TOLERANCE


@pytest.mark.parametrize("registers", [0, 4], ids=["plain", "registers"])
def test_the_giant_is_as_large_as_the_references(registers):
    """All 40 layers are too many to run here; the mask token is not ours."""
    with torch.device("meta"):
        if registers:
            config = transformers.Dinov2WithRegistersConfig(**GIANT, **reference.TRUE_IMAGE)
            model = transformers.Dinov2WithRegistersModel(config)
        else:
            config = transformers.Dinov2Config(**GIANT, **reference.TRUE_IMAGE)
            model = transformers.Dinov2Model(config)
    found = DinoArchitecture.from_hugging_face(config.to_dict())
    assert found == pretrained.KNOWN[name_of("giant", registers)]
    ours = sum(np.prod(shape) for shape in pretrained.shapes(found).values())
    assert ours == sum(p.numel() for name, p in model.named_parameters() if "mask_token" not in name)


def test_pooling_averages_squares_of_patches(variables):
    images = photographs(56, 56)
    whole, pooled = (jax.jit(module(pool=pool).apply)(variables, images) for pool in (1, 2))
    assert whole.shape == (2, 1 + 16, 24) and pooled.shape == (2, 1 + 4, 24)
    np.testing.assert_array_equal(pooled[:, 0], whole[:, 0])
    corner = whole[:, 1:].reshape(2, 4, 4, 24)[:, :2, :2]
    np.testing.assert_allclose(pooled[:, 1], corner.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_images_of_another_size_are_resized(variables):
    """A picture of one colour is the same picture at any size."""
    colour = jnp.broadcast_to(jnp.array([10, 200, 90], jnp.uint8), (1, 40, 64, 3))
    apply = jax.jit(module(size=28).apply)
    assert apply(variables, colour).shape == (1, 1 + 4, 24)
    np.testing.assert_allclose(apply(variables, colour), apply(variables, colour[:, :28, :28]), atol=1e-5)


@pytest.mark.parametrize(("pixels", "pool"), [(30, 1), (42, 2)])
def test_nothing_is_cut_off(variables, pixels, pool):
    message = rf"images of {pixels} x {pixels} pixels .* expected multiples of {14 * pool}"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module(pool=pool).apply, variables, jnp.zeros((1, pixels, pixels, 3), jnp.uint8))


def test_half_precision_changes_little(variables):
    images = photographs(28, 28)
    exact, half = (jax.jit(module(dtype=dtype).apply)(variables, images) for dtype in (jnp.float32, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert np.abs(half.astype(jnp.float32) - exact).max() < 0.05
