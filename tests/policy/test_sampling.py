"""Of several samples one acts, and it is always one of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.policy.sampling import select_sample


def chunks(*values: tuple[float, float]) -> jnp.ndarray:
    """One observation, chunks of one step and two entries: [1 g 1 2]."""
    return jnp.array(values)[None, :, None]


def test_the_first_or_the_one_nearest_to_the_mean():
    three = chunks((0.0, 0.0), (9.0, 0.0), (3.0, 0.0))  # their mean is (4, 0)
    np.testing.assert_array_equal(select_sample(three, "first"), [[[0.0, 0.0]]])
    np.testing.assert_array_equal(select_sample(three, "nearest_mean"), [[[3.0, 0.0]]])
    np.testing.assert_array_equal(select_sample(three[:, :1], "nearest_mean"), [[[0.0, 0.0]]])


def test_entries_that_never_vary_have_no_say():
    """Without the second entry the mean is 4 and 3 is nearest; with it the third sample would be far away."""
    three = chunks((0.0, 1.0), (9.0, 0.0), (3.0, 90.0))
    only_first = np.array([[True, False]])
    np.testing.assert_array_equal(select_sample(three, "nearest_mean", only_first), [[[3.0, 90.0]]])
    np.testing.assert_array_equal(select_sample(three, "nearest_mean"), [[[0.0, 1.0]]])


def test_every_observation_chooses_for_itself():
    both = jnp.concatenate([chunks((0.0, 0.0), (1.0, 0.0), (9.0, 0.0)), chunks((0.0, 0.0), (9.0, 0.0), (8.0, 0.0))])
    np.testing.assert_array_equal(select_sample(both, "nearest_mean")[:, 0, 0], [1, 8])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="unknown choice 'best' among samples; expected first or nearest_mean"):
        select_sample(chunks((0.0, 0.0)), "best")
