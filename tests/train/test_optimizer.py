"""Schedule, decay, clipping and freezing, in numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.train.optimizer import MUON_RMS, make_optimizer, schedule
from drifting_vla_jax.train.state import init_state
from tests.small import small_config


@pytest.fixture
def config():
    config = small_config()
    t = config.train
    t.steps, t.warmup_steps, t.learning_rate, t.final_lr_fraction = 110, 10, 1e-3, 0.1
    return config


def test_schedule_by_hand(config):
    """0 -> peak over the warm-up, half way down at half time, the last step at a tenth."""
    rates = jax.jit(schedule(config))(jnp.array([0, 5, 10, 60, 110, 1000]))
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, 0.55e-3, 1e-4, 1e-4], rtol=1e-5, atol=1e-9)


PARAMS = {
    "vision": {"kernel": jnp.full((2, 2), 2.0)},
    "dit": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 2.0)},
}


def update(config, gradient, steps=2, params=PARAMS):
    """The last of a few updates with the same gradient everywhere."""
    optimiser = make_optimizer(config)

    @jax.jit
    def run():
        state = optimiser.init(params)
        for _ in range(steps):  # the first has learning rate 0
            updates, state = optimiser.update(jax.tree.map(lambda p: jnp.full_like(p, gradient), params), state, params)
        return updates, state

    return run()


def test_decay_shrinks_matrices_only(config):
    """Without a gradient a matrix loses learning rate (1e-4 at step 1) times 0.5 of itself, a vector nothing."""
    config.train.weight_decay = 0.5
    updates, _ = update(config, 0.0)
    np.testing.assert_allclose(updates["dit"]["kernel"], -1e-4 * 0.5 * 2.0, rtol=1e-5)
    assert not np.any(updates["dit"]["bias"])


def test_adam_steps_have_the_size_of_the_learning_rate(config):
    config.train.weight_decay = 0.0
    updates, _ = update(config, 3.0)
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_allclose(leaf, -1e-4, rtol=1e-3)


def moments(state, name):
    """{path: leaf} of a part of Adam's state."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    paths = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {path: leaf for path, leaf in paths.items() if f"/{name}/" in path}


def test_the_gradients_norm_is_clipped_over_all_parameters(config):
    """Ten numbers of 100: norm 316, clipped to 2; the first moment after one step is (1 - b1) of it."""
    config.train.clip_norm = 2.0
    _, state = update(config, 100.0, steps=1)
    total = np.sqrt(sum(np.square(leaf).sum() for leaf in moments(state, "mu").values()))
    np.testing.assert_allclose(total, 2.0 * (1 - config.train.b1), rtol=1e-4)


def test_stacked_layers_decay_by_name(config):
    """A stack of biases has two axes and is still no matrix."""
    config.train.weight_decay = 0.5
    stacked = {"dit": {"blocks": {"kernel": jnp.full((3, 2, 2), 2.0), "bias": jnp.full((3, 2), 2.0)}}}
    updates, _ = update(config, 0.0, params=stacked)
    assert np.all(updates["dit"]["blocks"]["kernel"]) and not np.any(updates["dit"]["blocks"]["bias"])


def test_muon_makes_a_matrix_step_of_equal_singular_values(config):
    """Each matrix, stacked or not, moves by about an orthogonal one of AdamW's size; a vector as AdamW would."""
    config.train.optimizer, config.train.weight_decay, config.train.clip_norm = "muon", 0.0, 1e9
    draw = iter(jax.random.split(jax.random.key(0), 3))
    params = {
        "vision": {"conv": {"kernel": jax.random.normal(next(draw), (3, 3, 2, 12)), "bias": jnp.ones(12)}},
        "dit": {"blocks": {"kernel": jax.random.normal(next(draw), (3, 8, 16))}},
    }
    optimiser = make_optimizer(config)

    @jax.jit
    def run():
        state = optimiser.init(params)
        for _ in range(2):  # the first has learning rate 0
            updates, state = optimiser.update(params, state, params)
        return updates

    updates = run()
    sizes = np.linalg.svd(updates["dit"]["blocks"]["kernel"], compute_uv=False)
    own = np.linalg.svd(params["dit"]["blocks"]["kernel"], compute_uv=False)
    assert sizes.shape == (3, 8) and own.max() / own.min() > 2.5
    np.testing.assert_allclose(sizes, 1e-4 * MUON_RMS * 16**0.5, rtol=0.4)
    conv = np.linalg.svd(np.reshape(updates["vision"]["conv"]["kernel"], (18, 12)), compute_uv=False)
    np.testing.assert_allclose(conv, 1e-4 * MUON_RMS * 18**0.5, rtol=0.4)
    np.testing.assert_allclose(updates["vision"]["conv"]["bias"], -1e-4, rtol=0.2)  # with Nesterov momentum


def test_an_encoders_own_learning_rate(config):
    config.train.lr_scale.vision = 0.1
    updates, _ = update(config, 3.0)
    np.testing.assert_allclose(updates["vision"]["kernel"], 0.1 * updates["dit"]["kernel"], rtol=1e-5)


def test_a_frozen_part_has_no_optimiser_state(config):
    config.train.freeze = ("vision",)
    state = jax.eval_shape(lambda: init_state(config))
    named = moments(state.opt_state, "mu")
    assert named and not [path for path in named if "/vision/" in path]
    assert len(named) == len(jax.tree.leaves({k: v for k, v in state.params.items() if k != "vision"}))
