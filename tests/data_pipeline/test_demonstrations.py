"""Demonstrations end in success, hold absolute targets one step ahead, and are replayed before they are believed."""

import dataclasses
import json

import numpy as np
import pytest

from drifting_vla_jax.data import demonstrations
from drifting_vla_jax.data.demonstrations import CollectSettings, ReplayGateError, collect, episode_path
from drifting_vla_jax.data.episodes import Episode, decode_image

SETTINGS = CollectSettings(
    tasks=("drawer-close",),
    episodes=2,
    cameras=("top",),
    image_size=32,
    frame_skip=4,
    action_noise=0.3,
    hold_steps=4,
    seed=0,
    val_fraction=0.5,
    gate=0.95,
    workers=1,
)


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("demonstrations")
    return out, collect(SETTINGS, out)


def test_what_is_recorded(collected):
    out, report = collected
    (task,) = report.tasks
    assert (task.kept, task.replayed) == (2, 2) and report.recorded == 2
    episode = Episode.load(episode_path(out, "drawer-close", 0))
    assert len(episode.instructions) >= 4 and decode_image(episode.images["top"][0]).shape == (32, 32, 3)
    np.testing.assert_allclose(episode.actions[:-1, :3], episode.state[1:, :3], atol=1e-6)  # one step ahead
    np.testing.assert_allclose(np.linalg.norm(episode.actions[:, 3:7], axis=1), 1.0, atol=1e-6)
    assert set(np.round(episode.actions[:, 7], 3)) <= {0.0, 1.0} or (np.abs(episode.actions[:, 7] - 0.5) <= 0.5).all()
    assert SETTINGS.split(0) == "train" and SETTINGS.split(1) == "val"


def test_a_second_start_records_nothing_anew(collected):
    out, _ = collected
    assert collect(SETTINGS, out).recorded == 0


def test_other_settings_are_refused_by_name(collected):
    out, _ = collected
    with pytest.raises(ValueError, match="image_size"):
        collect(dataclasses.replace(SETTINGS, image_size=48), out)


def test_targets_that_do_not_replay_stop_the_build(collected, tmp_path):
    """Shifted by 20 cm the same targets close no drawer: the gate says which task fell short, and how far."""
    out, _ = collected
    for index in range(SETTINGS.episodes):
        episode = Episode.load(episode_path(out, "drawer-close", index))
        shifted = episode.actions + np.array([0.2, 0, 0.2, 0, 0, 0, 0, 0], np.float32)
        path = episode_path(tmp_path, "drawer-close", index)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataclasses.replace(episode, actions=shifted).save(path)
    (tmp_path / ".episodes" / "settings.json").write_text(json.dumps(SETTINGS.recorded()))
    with pytest.raises(ReplayGateError, match=r"drawer-close 0/2"):
        collect(SETTINGS, tmp_path)


def test_unknown_tasks_are_refused_before_anything_starts():
    with pytest.raises(ValueError, match="drawer-close"):
        dataclasses.replace(SETTINGS, tasks=("drawer-clos",))
    assert demonstrations.SEEDS_PER_COLLECTION > SETTINGS.episodes
