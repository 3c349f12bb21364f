"""Position embeddings on other grids, against torch's own bicubic interpolation."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from drifting_vla_jax.models.resample import cubic, resample_grid, resampling_matrix


def test_keys_kernel_by_hand():
    """1 at the centre, 0 at the other samples; half way (9 - 1) / 16 and -1/16 for a = -1/2."""
    assert cubic(np.array([0.0, 1.0, -1.0, 2.0, 3.0]), a=-0.5).tolist() == [1, 0, 0, 0, 0]
    assert cubic(np.array([0.5, -0.5, 1.5]), a=-0.5).tolist() == [9 / 16, 9 / 16, -1 / 16]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(37, 16), (37, 20), (37, 37), (16, 37), (5, 1), (3, 8), (2, 5), (1, 3)])
def test_equals_torch(old, new, antialias):
    """The response to a unit at each place of the old grid is a column of the matrix; torch finds places in float32."""
    units = torch.eye(old)[:, None, :, None].expand(old, 1, old, 4)  # columns alike: the other axis does nothing
    theirs = torch.nn.functional.interpolate(
        units, size=(new, 4), mode="bicubic", align_corners=False, antialias=antialias
    )
    np.testing.assert_allclose(resampling_matrix(old, new, antialias), theirs[:, 0, :, 0].T, atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_grid_is_resampled_along_both_axes(antialias):
    grid = np.random.default_rng(0).standard_normal((9, 7, 3), np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(grid).permute(2, 0, 1)[None], size=(4, 11), mode="bicubic", antialias=antialias
    )
    ours = resample_grid(jnp.asarray(grid), (4, 11), antialias)
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0), atol=1e-5)


def test_the_same_grid_is_left_alone():
    grid = jnp.ones((3, 3, 2))
    assert resample_grid(grid, (3, 3), True) is grid
