"""DINOv2 against stored outputs of transformers: every layer, every size, image sizes it was not trained on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.models.encoders.dinov2 import DinoArchitecture, DINOv2
from drifting_vla_jax.models.pretrained import load as pretrained
from tests.models import reference
from tests.models.reference import photographs

TRUE = [case for case in reference.IMAGES if "/" in case]
ARCHITECTURE = DinoArchitecture(width=24, depth=1, heads=2, hidden=48, activation="gelu", grid=4)


def module(architecture=ARCHITECTURE, size=0, pool=1, remat="none", dtype=jnp.float32):
    return DINOv2(architecture, size, pool, lora=0, remat=remat, dtype=dtype)


@pytest.fixture(scope="module")
def variables():
    """Parameters for ``ARCHITECTURE``."""
    return jax.jit(module().init)(jax.random.key(0), photographs(28, 28))


def parity(case, architecture, params, size):
    """The largest relative error of any layer and of the output."""
    out, layers = reference.run(module(architecture), params, reference.inputs(case, size))
    assert len(layers) == 1 + architecture.depth
    error = reference.worst(reference.summary([*layers, out]), reference.stored()[reference.key(case, size)])
    print(f"{reference.key(case, size)} px: {error:.2e}")
    return error


@pytest.mark.parametrize("case", [case for case in reference.IMAGES if case not in TRUE])
def test_equals_the_reference(case, tmp_path):
    """On the grid it was trained on, a smaller one and a larger one that are not square."""
    encoder = pretrained.load(reference.save(case, tmp_path))
    for size in reference.IMAGES[case]:
        assert parity(case, encoder.architecture, encoder.params, size) < reference.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", TRUE)
def test_equals_the_reference_at_true_size(case):
    architecture, params = reference.encoder(case)
    name, _, one_layer = case.partition(", ")
    known = pretrained.KNOWN[name]
    assert architecture == (dataclasses.replace(known, depth=1) if one_layer else known)
    for size in reference.IMAGES[case]:
        assert parity(case, architecture, params, size) < reference.TOLERANCE


@pytest.mark.parametrize("case", reference.GIANTS)
def test_the_giant_is_as_large_as_the_references(case):
    """All 40 layers are too many to run here; the mask token is not ours."""
    about = reference.about(case)
    found = DinoArchitecture.from_hugging_face(about["config"])
    assert found == pretrained.KNOWN[case]
    ours = sum(np.prod(shape) for shape in pretrained.shapes(found).values())
    assert ours == sum(np.prod(shape) for name, shape in about["shapes"].items() if "mask_token" not in name)


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
