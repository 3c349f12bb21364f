"""What a policy did becomes data: evaluated in the dummy simulator by worker processes, recorded, exported, built."""

import json

import numpy as np
import pytest

from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.data import build, export
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources import rollouts
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout.episode_log import read_episodes
from drifting_vla_jax.rollout.runner import run
from drifting_vla_jax.serve.server import PolicyServer
from tests.rollout.asked import evaluated, worker_settings
from tests.rollout.dummy_policy import SIZE, LookingPolicy

HOW = {"execute": 2, "max_steps": 60, "hold_steps": 3}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """All six episodes of a policy that solves red and fails at blue."""
    out = tmp_path_factory.mktemp("eval")
    with PolicyServer(LookingPolicy(), port=0, batch_deadline_ms=1) as server:
        address = f"ws://127.0.0.1:{server.port}"
        tasks = ("reach-red", "reach-blue")
        assert run(worker_settings(address, "dummy", tasks, out, episodes=3, seed=5, record="all", **HOW)) == 0
    return out


def test_an_episode_is_what_was_seen_and_commanded(recorded):
    """Replayed in the simulator, the recorded targets lead through the recorded states, and to the same end."""
    lines = {(e["task"], e["seed"]): e for e in read_episodes(recorded / "episodes.jsonl")}
    assert [e["success"] for e in lines.values()] == [True] * 3 + [False] * 3
    found = rollouts.find(recorded)
    assert len(found.paths) == 6
    assert found.about["state_names"] == ["x", "y", "z", "gripper"] and found.about["control_hz"] == 20
    assert (found.about["cameras"], found.about["image_size"]) == (["front", "above"], SIZE)
    env = registry.make("dummy", cameras=("front", "above"), image_size=SIZE, frame_skip=2)
    for path in found.paths:
        episode = Episode.load(path)
        line = lines[episode.task, episode.seed]
        assert line["recording"] == f"rollouts/{path.name}"
        assert (len(episode), episode.success, episode.instructions) == (
            line["steps"],
            line["success"],
            (line["instruction"],),
        )
        observation, _ = env.reset(episode.task, episode.variation, episode.seed)
        for row in range(len(episode)):
            np.testing.assert_array_equal(observation.state, episode.state[row])
            for camera, image in observation.images.items():
                np.testing.assert_array_equal(image, decode_image(episode.images[camera][row]))
            step = env.step(episode.actions[row])
            observation = step.observation
        assert step.success is episode.success


def test_exported_as_lerobot_and_read_back(recorded, tmp_path):
    pytest.importorskip("av", reason="the extra [lerobot] is not installed")
    info = export.export(recorded, tmp_path / "set", 10, only_success=True)
    assert (info["total_episodes"], info["splits"], info["fps"]) == (3, {"train": "0:3"}, 20)
    settings = RecordedSettings(
        str(tmp_path / "set"), lerobot_source.read_mapping("drifting_vla"), (), 0, (), 0, 0.0, 0.0, "fail", 1
    )
    done = convert.convert(settings, lerobot_source.open_files(settings), tmp_path / "back")
    assert done.cameras == ("front", "above") and done.state_names == ("x", "y", "z", "gripper")
    originals = [episode for _, episode in rollouts.find(recorded).of(only_success=True)]
    assert [e.task for e in originals] == ["reach-red"] * 3
    for path, episode in zip(done.splits["train"], originals):
        again = Episode.load(path)
        np.testing.assert_array_equal(again.state, episode.state)
        np.testing.assert_allclose(again.actions, episode.actions, atol=1e-6)
        assert again.instructions == episode.instructions and len(again) == len(episode)
    path, episode = rollouts.find(recorded).of(only_success=True)[0]
    there = decode_image(Episode.load(path).images["front"][-1]).astype(float)
    back = decode_image(Episode.load(done.splits["train"][0]).images["front"][-1])
    assert np.abs(back - there).mean() < 8  # of 255; H.264 halves colour's resolution
    assert export.export(recorded, tmp_path / "all", 30)["total_episodes"] == 6


@pytest.mark.slow
def test_an_evaluation_that_records_successes_can_be_trained_on(tmp_path):
    """Worker processes record; data.build divides what is there; DataSet opens it."""
    out = tmp_path / "eval"
    how = {
        "env": "dummy",
        "tasks": ["reach-red", "reach-blue"],
        "episodes": 4,
        "workers": 2,
        "seed": 1,
    }
    results = evaluated(LookingPolicy(), out, record="success", **how, **HOW)
    assert results["settings"]["record"] == "success" and results["tasks"]["reach-blue"]["success_rate"] == 0
    assert len(rollouts.find(out).paths) == results["overall"]["successes"] == 4
    with pytest.raises(ValueError, match="holds an evaluation with record 'success', this one has None"):
        evaluated(LookingPolicy(), out, **how, **HOW)
    settings = rollouts.RolloutSettings(str(out), (), 0, True, 0.25)
    build.build(settings, tmp_path / "set", "rollouts", False)
    data = DataSet(tmp_path / "set", ("front", "above"))
    assert data.metadata["details"]["environment"] == "dummy" and data.tasks == ["reach-red"]
    assert [len(data.metadata["episodes"][s]) for s in ("train", "val")] == [3, 1]
    first = Episode.load(rollouts.find(out).paths[0])
    np.testing.assert_array_equal(data.split("train").state[: len(first)], first.state)
    np.testing.assert_array_equal(data.split("train").images(0)[0], decode_image(first.images["front"][0]))
    assert "4 kept,    4 of them successes" in build.summary(tmp_path / "set" / "demonstrations" / "1.0.0")


def test_what_is_not_there_is_said(recorded, tmp_path):
    with pytest.raises(ValueError, match=r"no recorded episodes in .*eval.record=all"):
        rollouts.collect(rollouts.RolloutSettings(str(tmp_path), (), 0, False, 0.1), tmp_path / "set")
    found = rollouts.find(recorded)
    with pytest.raises(ValueError, match="no episode of 'reach-rod' was recorded; .*reach-red"):
        found.of(("reach-rod",))
    with pytest.raises(ValueError, match="nothing to take: none is a success"):
        found.of(("reach-blue",), only_success=True)
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "about.json").write_text(json.dumps(found.about))
    with pytest.raises(ValueError, match="no episode has ended yet"):
        rollouts.find(tmp_path).of()


def test_only_success_is_about_recorded_episodes(dataset_path, tmp_path):
    with pytest.raises(ValueError, match="has no recorded episodes, and --only_success"):
        export.export(dataset_path, tmp_path / "set", 18, only_success=True)


def test_without_record_nothing_is_left_behind(tmp_path):
    with PolicyServer(LookingPolicy(), port=0, batch_deadline_ms=1) as server:
        address = f"ws://127.0.0.1:{server.port}"
        assert run(worker_settings(address, "dummy", ("reach-red",), tmp_path, episodes=1, seed=5, **HOW)) == 0
        assert not (tmp_path / "rollouts").exists()
        with pytest.raises(ValueError, match="record is 'wins'; expected none or success or all"):
            run(worker_settings(address, "dummy", ("reach-red",), tmp_path, episodes=1, seed=5, record="wins", **HOW))
