"""Two arms, and joints recorded by others, through the real loop to a server: chunks of the right width, in their own units."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.data import build, tfds_writer
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.data.sources.lerobot import source as lerobot_source
from drifting_vla_jax.data.sources.recorded.base import RecordedSettings
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.report.dataset.reader import open_data
from drifting_vla_jax.rollout.episode import EpisodeSettings
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.train import loop
from drifting_vla_jax.train.assets import Assets
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.wire.client import PolicyClient
from tests import lerobot_fixture
from tests.small import CAMERAS, SIZE, episode, small_config, write_episodes

BIMANUAL = ActionLayout("bimanual")
ALOHA = ActionLayout(
    "joints",
    tuple(name for name in lerobot_fixture.ALOHA if "gripper" not in name),
    ("left_gripper", "right_gripper"),
)


def two_arms(index):
    """The small episode's walk by the left arm; the right one walks 10 m beside it, with its gripper the other way."""
    one = episode(index)
    right = one.actions + np.float32([10, 0, 0, 0, 0, 0, 0, 0])
    right[:, 7] = 1 - right[:, 7]
    state = np.concatenate([one.state[:, :3], one.state[:, :3] + np.float32([10, 0, 0])], axis=1)
    return dataclasses.replace(one, state=state, actions=np.concatenate([one.actions, right], 1), layout=BIMANUAL)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """{layout: a data set}: of two arms six episodes, and of ALOHA's joints what ``data.build`` makes of LeRobot's three."""
    folder = tmp_path_factory.mktemp("sets")
    names = ("left x", "left y", "left z", "right x", "right y", "right z")
    both = write_episodes(folder / "bimanual", [two_arms(index) for index in range(6)], state_names=names)
    root = lerobot_fixture.write_3(folder / "lerobot", images=True, aloha=True)
    mapping = lerobot_source.read_mapping("aloha")
    settings = RecordedSettings(str(root), mapping, (), 0, (), SIZE, 0.0, 0.3, "fail", 1)
    build.build(settings, folder / "joints", "lerobot", False)
    return {"bimanual": both, "joints": folder / "joints"}


def config_of(layout, sets):
    config = small_config()
    config.action.layout, config.action.joints, config.action.grippers = layout.name, layout.joints, layout.grippers
    about = DataSet(sets[layout.name], ()).metadata
    config.env.state_dim, config.data.path = len(about["state_names"]), str(sets[layout.name])
    config.env.cameras = tuple(about["cameras"])
    config.env.tasks = tuple(dict.fromkeys(each["task"] for each in about["episodes"]["train"]))
    t = config.train
    t.steps, t.warmup_steps, t.eval_every, t.save_every, config.figures.A1_drifting_field = 2, 1, 2, 2, 1
    return config


@pytest.mark.parametrize(
    ("layout", "options", "errors"),
    [
        pytest.param(
            BIMANUAL,
            {"drifting.grouping": "block"},
            {"position_error_cm", "rotation_error_deg", "gripper_accuracy"},
            marks=pytest.mark.slow,
        ),
        (ALOHA, {"name": "flow_matching"}, {"joint_error", "gripper_accuracy"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_it_trains_and_is_served(layout, options, errors, sets, tmp_path, caplog):
    config = config_of(layout, sets)
    config.objective.update_from_flattened_dict(options)
    if config.objective.name == "flow_matching":
        config.model.noise_dim = layout.network_dim
    with caplog.at_level(logging.WARNING):
        loop.train(config, tmp_path, jax.devices()[:1])
    assert f"of actions of layout {layout} none are drawn" in caplog.text
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    known = {"position_error_cm", "rotation_error_deg", "gripper_accuracy", "joint_error"}
    assert {name for name in known if f"val/{name}" in last} == errors and np.isfinite(last["train/loss"])
    assert Checkpoints(tmp_path).best() == 2

    policy = restore(tmp_path)
    seen = {camera: np.zeros((SIZE, SIZE, 3), np.uint8) for camera in config.env.cameras}
    state = DataSet(config.data.path, ()).split("val").state[0]
    prompt = policy.metadata["prompts"][0]
    with (
        PolicyServer(policy, port=0, batch_deadline_ms=1.0) as server,
        PolicyClient(f"ws://127.0.0.1:{server.port}") as client,
    ):
        assert client.metadata["action_names"] == list(layout.names)
        chunk = client.infer({"images": seen, "state": state, "prompt": prompt, "seed": 0})["actions"]
    assert chunk.shape == (4, layout.dim) and np.isfinite(chunk).all()
    if layout == BIMANUAL:
        assert (chunk[:, 8] - chunk[:, 0] > 5).all()  # each arm from where it is
        np.testing.assert_allclose(np.linalg.norm(chunk[:, 11:15], axis=1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="simulators move one end effector; the policy's actions are"):
        EpisodeSettings.for_policy(policy.metadata, execute=2, max_steps=10, hold_steps=2)


def test_joints_that_others_recorded_are_what_they_were(sets):
    """LeRobot's 14 numbers, an arm and its gripper after the other: ours are all joints, then both grippers."""
    data = DataSet(sets["joints"], ())
    assert data.metadata["action_names"] == data.metadata["state_names"] == list(ALOHA.names)
    order = [*range(6), *range(7, 13), 6, 13]
    state, action = lerobot_fixture.numbers(0, aloha=True)
    train = data.split("train")
    np.testing.assert_array_equal(train.state[:7], state[:, order])
    np.testing.assert_array_equal(train.actions[:7], action[:, order])
    said = build.summary(data.folder)
    assert "config.action.layout = 'joints'\nconfig.action.joints = ('left_waist', 'left_shoulder'," in said
    assert said.endswith("config.action.grippers = ('left_gripper', 'right_gripper')\nconfig.env.state_dim = 14")


def test_data_or_a_checkpoint_of_another_layout_are_refused_in_a_line(sets, dataset_path):
    bimanual, other = config_of(BIMANUAL, sets), config_of(ALOHA, sets)
    with pytest.raises(ValueError, match="has actions of layout end_effector, the configuration's is bimanual; change"):
        DataSet(dataset_path, CAMERAS).check(bimanual)
    other.action.joints = ALOHA.joints[::-1]
    with pytest.raises(
        ValueError, match=r"layout joints \(left_waist, .*; grippers left_gripper, right_gripper\), the"
    ):
        DataSet(sets["joints"], ()).check(other)
    with pytest.raises(ValueError, match=r"has actions left_waist, .*; this page is about one end effector's"):
        open_data(sets["joints"])
    space = ActionNormalizer("relative", *np.zeros((2, 4, 14)), *np.zeros((2, 14)), ALOHA)
    checkpoint = Assets(config_of(ALOHA, sets), space, (), 10.0, ALOHA.names, {})
    assert checkpoint.spaces(config_of(ALOHA, sets)) is space
    with pytest.raises(
        ValueError, match=r"the checkpoint has learned actions of layout joints \(.*\), the conf.* \(right_"
    ):
        checkpoint.spaces(other)


def test_an_episode_of_another_width_or_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"actions of reach-red have shape \(12, 16\); expected \(12, 8\)"):
        dataclasses.replace(two_arms(0), layout=ActionLayout())
    two_arms(0).save(tmp_path / "0.npz")
    about = tfds_writer.About("test", CAMERAS, SIZE, ("x", "y", "z", "gripper"), 20.0, {})
    with pytest.raises(ValueError, match="an episode of reach-red has actions of layout bimanual"):
        tfds_writer.write(tmp_path, {"train": [tmp_path / "0.npz"]}, about)
