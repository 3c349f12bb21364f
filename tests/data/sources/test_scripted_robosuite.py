"""The recorder with a second simulator: one in which the wrist turns."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from drifting_vla_jax.core.episode import decode_image
from drifting_vla_jax.core.rotation import rotation_6d
from drifting_vla_jax.data.sources.scripted import CollectSettings, record, replay

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("robosuite") is None,
    reason="needs the extra [robosuite] and robosuite itself, see docs/how-to/use-robosuite.md",
)
SETTINGS = CollectSettings(
    tasks=("lift",),
    episodes=2,
    cameras=("wrist",),
    image_size=16,
    frame_skip=25,
    action_noise=0.2,
    hold_steps=12,
    settle_steps=4,
    seed=0,
    val_fraction=0.5,
    gate=0.95,
    workers=1,
    simulator="robosuite",
)


@pytest.fixture(scope="module")
def env():
    env = SETTINGS.start()
    yield env
    env.close()


@pytest.fixture(scope="module")
def episode(env):
    return record(env, SETTINGS, "lift", seed=0, settle=4)


def test_a_target_is_where_the_hand_was_one_step_later_rotation_included(episode):
    np.testing.assert_allclose(episode.actions[:-1, :3], episode.state[1:, :3], atol=1e-6)
    np.testing.assert_allclose(rotation_6d(episode.actions[:-1, 3:7]), episode.state[1:, 3:9], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(episode.actions[:, 3:7], axis=1), 1, atol=1e-5)
    assert set(np.unique(episode.actions[:, 7])) == {0.0, 1.0}


def test_its_pictures_move(episode):
    frames = [decode_image(data) for data in episode.images["wrist"]]
    assert len(frames) == len(episode) and frames[0].shape == (16, 16, 3) and np.any(frames[0] != frames[-1])


def test_recorded_targets_replay_to_success_and_others_do_not(env, episode):
    assert replay(env, episode, SETTINGS.hold_steps)
    beside = episode.actions + np.float32([0.06, 0, 0, 0, 0, 0, 0, 0])
    assert not replay(env, dataclasses.replace(episode, actions=beside), SETTINGS.hold_steps)


def test_what_it_depends_on_is_written_down():
    recorded = SETTINGS.recorded()
    assert recorded["robosuite_version"] and "metaworld_version" not in recorded
    assert recorded["action_noise"] == 0.2


def test_a_task_of_another_simulator_is_refused():
    with pytest.raises(ValueError, match="unknown task 'drawer-open' in robosuite"):
        dataclasses.replace(SETTINGS, tasks=("drawer-open",))
