"""Two arms, and joints, through the real loop to a server: chunks of the right width, in the data's own units."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest

from drifting_vla_jax.data import builder
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.evaluate.evaluation import evaluate
from drifting_vla_jax.layouts import ActionLayout
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.report.demonstrations import open_data
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.train import loop
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.wire.client import PolicyClient
from tests.small import CAMERAS, SIZE, episode, small_config

BIMANUAL, JOINTS = ActionLayout("bimanual"), ActionLayout("joints", ("shoulder", "elbow"), ("gripper",))
STATES = {"bimanual": ("lx", "ly", "lz", "rx", "ry", "rz"), "joints": ("shoulder", "elbow")}


def two_arms(index):
    """The small episode's walk by the left arm; the right one walks 10 m beside it, with its gripper the other way."""
    one = episode(index)
    right = one.actions + np.float32([10, 0, 0, 0, 0, 0, 0, 0])
    right[:, 7] = 1 - right[:, 7]
    state = np.concatenate([one.state[:, :3], one.state[:, :3] + np.float32([10, 0, 0])], axis=1)
    return dataclasses.replace(one, state=state, actions=np.concatenate([one.actions, right], 1), layout=BIMANUAL)


def two_joints(index):
    """x and y of the same walk, taken for angles."""
    one = episode(index)
    return dataclasses.replace(one, state=one.state[:, :2], actions=one.actions[:, [0, 1, 7]], layout=JOINTS)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """{layout: a data set of six episodes}"""
    out = {}
    for make, layout in ((two_arms, BIMANUAL), (two_joints, JOINTS)):
        folder = tmp_path_factory.mktemp(layout.name)
        paths = [folder / f"{index}.npz" for index in range(6)]
        for index, path in enumerate(paths):
            make(index).save(path)
        about = builder.About("test", CAMERAS, SIZE, STATES[layout.name], 20.0, {}, layout)
        out[layout.name] = builder.write(folder, {"train": paths[:-2], "val": paths[-2:]}, about).parents[1]
    return out


def config_of(layout, sets):
    config = small_config()
    config.action.layout, config.action.joints, config.action.grippers = layout.name, layout.joints, layout.grippers
    config.env.state_dim, config.data.path = len(STATES[layout.name]), str(sets[layout.name])
    t = config.train
    t.steps, t.warmup_steps, t.eval_every, t.save_every, config.figures.A1_drifting_field = 2, 1, 2, 2, 1
    return config


@pytest.mark.parametrize(
    ("layout", "options", "errors"),
    [
        (BIMANUAL, {"grouping": "block"}, {"position_error_cm", "rotation_error_deg", "gripper_accuracy"}),
        (JOINTS, {"name": "flow_matching"}, {"joint_error", "gripper_accuracy"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_it_trains_and_is_served(layout, options, errors, sets, tmp_path, caplog):
    config = config_of(layout, sets)
    config.objective.update(options)
    if config.objective.name == "flow_matching":
        config.model.noise_dim = layout.network_dim
    with caplog.at_level(logging.WARNING):
        loop.train(config, tmp_path, jax.devices()[:1])
    assert f"of actions of layout {layout} none are drawn" in caplog.text
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    known = {"position_error_cm", "rotation_error_deg", "gripper_accuracy", "joint_error"}
    assert {name for name in known if f"val/{name}" in last} == errors and np.isfinite(last["train/loss"])
    assert Checkpoints(tmp_path).best() == 2
    decoder = restored_params(tmp_path, config)["decoder"]
    widths = {part.name: part.width for part in layout.parts}
    assert {name: p["kernel"].shape[-1] for name, p in decoder.items() if name != "hidden"} == widths

    policy = restore(tmp_path)
    seen = {camera: np.zeros((SIZE, SIZE, 3), np.uint8) for camera in CAMERAS}
    state = np.float32([0.1, 0.5, 0.2, 10.1, 0.5, 0.2][: config.env.state_dim])
    with PolicyServer(policy, port=0) as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
        assert client.metadata["action_names"] == list(layout.names)
        chunk = client.infer({"images": seen, "state": state, "prompt": "reach red", "seed": 0})["actions"]
    assert chunk.shape == (4, layout.dim) and np.isfinite(chunk).all()
    if layout == BIMANUAL:
        assert (chunk[:, 8] - chunk[:, 0] > 5).all()  # each arm from where it is
        np.testing.assert_allclose(np.linalg.norm(chunk[:, 11:15], axis=1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="simulators move one end effector; the policy's actions are"):
        evaluate(policy, out=tmp_path / "eval", environment="dummy", tasks=config.env.tasks, episodes_per_task=1)


def restored_params(workdir, config):
    from drifting_vla_jax.train.sharding import single_device_mesh

    return Checkpoints(workdir).restore_ema(2, config, single_device_mesh())


def test_data_of_another_layout_are_refused_in_a_line(sets, dataset_path):
    for layout, path, message in (
        (
            BIMANUAL,
            dataset_path,
            "has actions of layout end_effector, the configuration's is bimanual; change config.act",
        ),
        (
            ActionLayout("joints", ("elbow", "shoulder"), ("gripper",)),
            sets["joints"],
            r"layout joints \(shoulder, elbow, gr",
        ),
    ):
        config = config_of(layout, sets)
        config.data.path = str(path)
        with pytest.raises(ValueError, match=message):
            DataSet(path, CAMERAS).check(config)
    with pytest.raises(
        ValueError, match=r"has actions shoulder, elbow, gripper; this page is about one end effector's"
    ):
        open_data(sets["joints"])


def test_an_episode_of_another_width_or_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"actions of reach-red have shape \(12, 16\); expected \(12, 8\)"):
        dataclasses.replace(two_arms(0), layout=ActionLayout())
    two_joints(0).save(tmp_path / "0.npz")
    about = builder.About("test", CAMERAS, SIZE, ("x", "y", "z", "gripper"), 20.0, {})
    with pytest.raises(ValueError, match="an episode of reach-red has actions of layout joints"):
        builder.write(tmp_path, {"train": [tmp_path / "0.npz"]}, about)
