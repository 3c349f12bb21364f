"""What the loss is timed against is the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.benchmarks.loss import direct_drifting_loss
from drifting_vla_jax.benchmarks.timing import measure
from drifting_vla_jax.objectives.drifting.loss import drifting_loss


def points(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_the_direct_transcription_is_the_loss():
    gen, pos = points(0, 3, 8, 12), points(1, 3, 2, 12)
    (direct, info), (ours, our_info) = jax.jit(direct_drifting_loss)(gen, pos), jax.jit(drifting_loss)(gen, pos)
    np.testing.assert_allclose(ours, direct, rtol=1e-4)
    np.testing.assert_allclose(our_info["drift_sq"], info["drift_sq"], rtol=1e-3)


@pytest.mark.slow
def test_large_sets_need_a_fraction_of_the_memory():
    """Times mean nothing under the compiler flags of the tests; scratch memory does."""
    functions = {"direct": lambda x, y: direct_drifting_loss(x, y)[0], "ours": lambda x, y: drifting_loss(x, y)[0]}
    direct, ours = measure(functions, (points(0, 1, 2048, 4), points(1, 1, 2048, 4)), rounds=1)
    assert ours.temp_mb < 0.5 * direct.temp_mb
