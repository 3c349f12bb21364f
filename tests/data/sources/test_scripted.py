"""Demonstrations: what is written down is what happened, it can be replayed, and no work is done twice."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.data.sources import scripted as demonstrations
from drifting_vla_jax.data.sources.scripted import (
    LATER_ATTEMPTS,
    CollectSettings,
    ReplayGateError,
    collect,
    episode_path,
    record,
    replay,
)
from drifting_vla_jax.envs.metaworld.env import HAND_QUATERNION, MetaWorld

BLIND = CollectSettings(
    tasks=("drawer-close",),
    episodes=2,
    cameras=(),
    image_size=16,
    frame_skip=2,
    action_noise=0.4,
    hold_steps=12,
    settle_steps=2,
    seed=0,
    val_fraction=0.5,
    gate=0.95,
    workers=1,
    simulator="metaworld",
)


@pytest.fixture(scope="module")
def env():
    env = MetaWorld((), 16, 2)
    yield env
    env.close()


@pytest.fixture(scope="module")
def episode(env):
    return record(env, BLIND, "drawer-close", seed=0, settle=2)


@pytest.fixture
def collected(tmp_path):
    collect(BLIND, tmp_path)
    return tmp_path


def test_a_target_is_where_the_hand_was_one_step_later(episode):
    beyond = np.linalg.norm(episode.actions[:-1, :3] - episode.state[1:, :3], axis=1)  # what the hand presses with
    assert np.median(beyond) < 4e-3 and np.max(beyond) < 2e-2
    np.testing.assert_array_equal(episode.actions[:, 3:7], np.tile(np.float32(HAND_QUATERNION), (len(episode), 1)))
    assert np.all((episode.actions[:, 7] >= 0) & (episode.actions[:, 7] <= 1))
    assert np.linalg.norm(episode.actions[0, :3] - episode.state[0, :3]) > 1e-4  # never the present pose


@pytest.mark.slow
def test_an_episode_in_which_the_hand_is_thrown_is_not_kept(monkeypatch):
    """The door's handle slips away in this scene of the quickstart: the hand leaps 18 cm in a twentieth of a second."""
    settings = dataclasses.replace(BLIND, frame_skip=4, hold_steps=16)
    env = MetaWorld((), 16, 4)
    assert record(env, settings, "door-open", seed=44, settle=2) is None
    monkeypatch.setattr(demonstrations, "FASTEST", np.inf)
    episode = record(env, settings, "door-open", seed=44, settle=2)
    assert np.linalg.norm(np.diff(episode.state[:, :3], axis=0), axis=1).max() * 20 > 2.5
    env.close()


def test_an_episode_ends_when_success_was_held(env, episode):
    env.reset_displaced(episode.task, 0, episode.seed)
    successes = [env.step(action, render=False).success for action in episode.actions]
    assert not any(successes[:10]) and sum(successes) >= BLIND.hold_steps - 2
    moved = np.linalg.norm(np.diff(episode.state[-5:, :3], axis=0), axis=1)
    assert np.all(moved < 0.01), "the hand rests at the end"


def test_an_expert_that_goes_on_longer_ends_nearer_to_its_goal():
    settings = dataclasses.replace(BLIND, frame_skip=4)
    env = MetaWorld((), 16, 4)

    def end(settle, seed):
        assert record(env, settings, "reach", seed, settle) is not None
        return np.linalg.norm(env._sim.tcp_center - env._sim._target_pos)

    short, long = (np.mean([end(settle, seed) for seed in range(4)]) for settle in (2, 10))
    env.close()
    assert long < 0.02 < 0.025 < short < 0.05, "Meta-World calls 5 cm a success"


def test_attempts_at_an_episode_settle_for_ever_less_and_then_go_slowly():
    slow = LATER_ATTEMPTS[-1]
    assert BLIND.manners == ((2, 1.0), (1, 1.0), slow) and slow[1] < 1
    assert dataclasses.replace(BLIND, settle_steps=8).manners == ((8, 1.0), (2, 1.0), (1, 1.0), slow)
    assert dataclasses.replace(BLIND, settle_steps=1).manners == ((1, 1.0), slow)


@pytest.mark.slow
def test_an_expert_that_runs_through_its_goal_is_held_back(tmp_path):
    """At full speed the hand presses the handle down past the place where it should stay, in nearly every scene."""
    settings = dataclasses.replace(
        BLIND, tasks=("handle-press",), episodes=2, frame_skip=4, hold_steps=10, action_noise=0.2
    )
    env = MetaWorld((), 16, 4)
    at_full_pace = [record(env, settings, "handle-press", seed, settle) for seed in (0, 1) for settle in (2, 1)]
    slowly = [record(env, settings, "handle-press", seed, *LATER_ATTEMPTS[-1]) for seed in (0, 1)]
    env.close()
    assert at_full_pace == [None] * 4 and all(slowly)
    report = collect(settings, tmp_path).tasks[0]
    assert report.kept == 2 and report.failed >= 4, "the first two attempts of each failed"


def test_pictures_are_of_the_cameras_and_size_asked_for():
    settings = dataclasses.replace(BLIND, cameras=("top", "zoom"))
    env = MetaWorld(settings.cameras, settings.image_size, settings.frame_skip)
    episode = record(env, settings, "drawer-close", seed=0, settle=2)
    assert set(episode.images) == {"top", "zoom"}
    frames = [decode_image(data) for data in episode.images["zoom"]]
    assert len(frames) == len(episode) and frames[0].shape == (16, 16, 3)
    assert np.any(frames[0] != frames[-1])
    np.testing.assert_array_equal(frames[0], env.reset_displaced("drawer-close", 0, 0)[0].images["zoom"])
    env.close()


def test_recorded_targets_replay_to_success_and_shifted_ones_do_not(env, episode):
    assert replay(env, episode, BLIND.hold_steps)
    shifted = episode.actions + np.float32([0.1, 0, 0.1, 0, 0, 0, 0, 0])
    assert not replay(env, dataclasses.replace(episode, actions=shifted), BLIND.hold_steps)


def test_the_gate_refuses_and_names_the_task_and_its_figures(collected):
    path = episode_path(collected, "drawer-close", 1)
    episode = Episode.load(path)
    dataclasses.replace(episode, actions=episode.actions + np.float32([0, 0, 0.1, 0, 0, 0, 0, 0])).save(path)
    with pytest.raises(ReplayGateError, match=r"at least 95% is needed.*drawer-close 1/2"):
        collect(BLIND, collected)
    assert collect(dataclasses.replace(BLIND, gate=0.5), collected).tasks[0].replayed == 1


def test_what_was_replayed_is_not_replayed_again(collected, monkeypatch):
    before = collect(BLIND, collected).tasks
    verdict = episode_path(collected, "drawer-close", 1).with_suffix(".replayed")
    monkeypatch.setattr(demonstrations, "replay", lambda *_: False)
    assert collect(BLIND, collected).tasks == before
    verdict.write_text("y")  # a start was stopped while it wrote
    with pytest.raises(ReplayGateError, match=r"drawer-close 1/2.*let them through \(--gate\)"):
        collect(BLIND, collected)
    assert verdict.read_text().split()[0] == "no"


def test_finished_episodes_are_not_recorded_again(collected):
    first, second = (episode_path(collected, "drawer-close", i) for i in range(2))
    stamp, data = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    report = collect(BLIND, collected)
    assert report.recorded == 1 and report.tasks[0].kept == report.tasks[0].replayed == 2
    assert first.stat().st_mtime_ns == stamp
    assert second.read_bytes() == data, "an episode is a function of the settings and its number"
    more = collect(dataclasses.replace(BLIND, episodes=3, tasks=("window-open", "drawer-close")), collected)
    assert more.recorded == 1 + 3


def test_other_settings_do_not_take_over_old_episodes(collected):
    changed = dataclasses.replace(BLIND, action_noise=0.2, hold_steps=10)
    with pytest.raises(ValueError, match=r"action_noise 0\.4 -> 0\.2; hold_steps 12 -> 10.*choose another --out"):
        collect(changed, collected)


@pytest.mark.slow
def test_failed_episodes_are_dropped_and_counted(env, tmp_path):
    """The door of seed 1 is one that the scripted expert cannot open."""
    assert record(env, BLIND, "door-open", seed=1, settle=2) is None
    (report,) = collect(dataclasses.replace(BLIND, tasks=("door-open",)), tmp_path).tasks
    assert (report.kept, report.failed) == (2, 1)
    assert Episode.load(episode_path(tmp_path, "door-open", 1)).seed == demonstrations.SEEDS_PER_ATTEMPT + 1


def test_the_last_episodes_of_each_task_are_held_out(collected):
    settings = dataclasses.replace(BLIND, episodes=40, val_fraction=0.1)
    splits = [settings.split(i) for i in range(40)]
    assert splits == ["train"] * 36 + ["val"] * 4
    assert dataclasses.replace(BLIND, val_fraction=0.01).validation_episodes == 1  # asked for some: never none
    assert dataclasses.replace(BLIND, val_fraction=0.0).validation_episodes == 0
    assert [e.seed for e in demonstrations.read_episodes(BLIND, collected, "val")] == [1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tasks": ("drawer-opn",)}, "did you mean 'drawer-open'"),
        ({"tasks": ()}, "one or more different names"),
        ({"episodes": 0}, "episodes must be in 1"),
        ({"val_fraction": 1.0}, "val_fraction"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(BLIND, **change)


@pytest.mark.slow
def test_two_processes_record_what_one_does(collected, tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    report = collect(dataclasses.replace(BLIND, workers=2), out)
    assert report.recorded == report.tasks[0].replayed == 2
    for index in range(2):
        paths = [episode_path(folder, "drawer-close", index) for folder in (collected, out)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


INTERRUPTED = """
import pathlib, sys
from drifting_vla_jax.data.sources import scripted as demonstrations
settings = {settings!r}
if __name__ == "__main__":
    demonstrations.collect(settings, pathlib.Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_ctrl_c_leaves_whole_episodes_and_the_next_start_goes_on(tmp_path):
    settings = dataclasses.replace(BLIND, episodes=60, workers=2)
    script, out = tmp_path / "script.py", tmp_path / "out"
    text = INTERRUPTED.format(settings=settings).replace("CollectSettings(", "demonstrations.CollectSettings(")
    script.write_text(text)
    command = [sys.executable, str(script), str(out)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.getcwd()}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.rglob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    done = sorted(out.rglob("*.npz"))
    assert 3 <= len(done) < 60 and not list(out.rglob("*.partial"))
    assert all(len(Episode.load(path)) > BLIND.hold_steps for path in done)
    few = dataclasses.replace(settings, episodes=max(int(path.stem) for path in done) + 2, workers=1)
    assert collect(few, out).recorded == few.episodes - len(done)
