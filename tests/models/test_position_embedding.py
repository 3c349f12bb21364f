"""Position embeddings on other grids, against stored outputs of torch's bicubic interpolation."""

import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.models.encoders.position_embedding import cubic, resample_grid, resampling_matrix
from tests.models import reference


def test_keys_kernel_by_hand():
    """1 at the centre, 0 at the other samples; half way (9 - 1) / 16 and -1/16 for a = -1/2."""
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0]), a=-0.5).tolist() == [1, 0, 0, 0, 0]
    assert cubic(np.array([0.5, -0.5, 1.5]), a=-0.5).tolist() == [9 / 16, 9 / 16, -1 / 16]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), reference.RESAMPLED)
def test_equals_torch(old, new, antialias):
    """torch finds places in float32."""
    theirs = reference.stored()[f"resample/{old}-{new}{'-antialias' * antialias}"]
    np.testing.assert_allclose(resampling_matrix(old, new, antialias), theirs, atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_grid_is_resampled_along_both_axes(antialias):
    grid = np.random.default_rng(0).standard_normal((9, 7, 3), np.float32)
    ours = resample_grid(jnp.asarray(grid), (4, 11), antialias)
    np.testing.assert_allclose(ours, reference.stored()[f"resample/grid{'-antialias' * antialias}"], atol=1e-5)


def test_the_same_grid_is_left_alone():
    grid = jnp.ones((3, 3, 2))
    assert resample_grid(grid, (3, 3), True) is grid
