"""Quaternions against SciPy's, and the six numbers by hand."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.rotation import matrix, rotation_6d

HALF = 0.5**0.5


def test_the_matrix_is_scipys():
    q = np.random.default_rng(0).standard_normal((20, 10, 4))  # of any length
    expected = Rotation.from_quat(q.reshape(-1, 4)).as_matrix().reshape(20, 10, 3, 3)
    np.testing.assert_allclose(matrix(q), expected, atol=1e-14)
    np.testing.assert_allclose(matrix(q[0, 0].astype(np.float32)), expected[0, 0], atol=1e-6)


def test_6d_are_the_first_two_columns_of_the_matrix():
    """A quarter turn about z carries x to y and y to -x."""
    np.testing.assert_allclose(rotation_6d(np.array([[0, 0, HALF, HALF]])), [[0, 1, 0, -1, 0, 0]], atol=1e-12)


def test_q_and_minus_q_are_one_rotation():
    q = np.random.default_rng(1).standard_normal((200, 4))
    np.testing.assert_array_equal(rotation_6d(-q), rotation_6d(q))


@pytest.mark.parametrize("q", [[0, 0, 0, 0], [0, 0, 0, np.nan]])
def test_what_is_no_rotation_is_refused(q):
    with pytest.raises(ValueError, match="zero or not finite"):
        matrix(np.array(q))
