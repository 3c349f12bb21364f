"""RLBench's files -> data set -> training -> checkpoint -> evaluation, and keyframes as the network gets them."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.core.end_effector import HZ, STATE_NAMES
from drifting_vla_jax.data import pipeline, tfds_writer
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources.rlbench import source as rlbench_source
from drifting_vla_jax.data.sources.rlbench.source import ConvertSettings
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import loop
from tests.peract_fixture import TASKS
from tests.rollout.asked import evaluated
from tests.small import small_config

WORKER = (sys.executable, str(Path(__file__).with_name("rlbench_dummy.py")))


@pytest.fixture(scope="module")
def dataset_folder(demos, tmp_path_factory):
    """Both tasks, two views of 32 pixels; the third episode of each is held out."""
    out = tmp_path_factory.mktemp("rlbench-set")
    settings = ConvertSettings(str(demos), TASKS, 0, ("front", "wrist"), 32, 0.34, "fail", 1)
    splits, size, reports = rlbench_source.convert(settings, out)
    details = rlbench_source.details(settings, reports)
    about = tfds_writer.About("peract", settings.cameras, size, STATE_NAMES, HZ, details)
    tfds_writer.write(out, splits, about)
    return out


@pytest.fixture
def rlbench_config(dataset_folder):
    config = small_config()
    config.env.tasks, config.env.cameras, config.env.image_size, config.env.state_dim = (
        TASKS,
        ("front", "wrist"),
        32,
        10,
    )
    config.data.path, config.data.max_tokens = str(dataset_folder), 96
    return config


@pytest.mark.slow
def test_from_demonstrations_to_an_evaluation(rlbench_config, tmp_path):
    config, train = rlbench_config, rlbench_config.train
    train.steps, train.warmup_steps, train.eval_every, train.save_every = 2, 1, 2, 2
    config_lib.validate(config)
    loop.train(config, tmp_path / "run", jax.devices()[:1])
    policy = restore(tmp_path / "run", batch_sizes=(1,))
    assert policy.metadata["checkpoint_step"] == 2 and policy.metadata["cameras"] == ["front", "wrist"]
    results = evaluated(
        policy,
        tmp_path / "eval",
        "dressed",
        TASKS,
        episodes=1,
        workers=1,
        seed=1,
        execute=2,
        max_steps=4,
        hold_steps=2,
        worker_command=WORKER,
    )
    assert results["overall"]["n"] == 2 and set(results["tasks"]) == set(TASKS)
    assert results["checkpoint_step"] == 2
    outcomes = {name for task in results["tasks"].values() for name in task["outcomes"]}
    assert outcomes <= {"time_limit", "success", "ik"}  # two steps of training: it acts, and that is all


def test_keyframes_as_targets(rlbench_config):
    """Entry 0 is the next keyframe's pose, entry 1 the one after it or masked; the gripper closes at the first."""
    config = rlbench_config
    config.action.keyframes, config.action.horizon, config.eval.execute = True, 2, 1
    config.data.batch_size, config.data.state_noise = 8, 0.0
    config_lib.validate(config)
    dataset = DataSet(config.data.path, config.env.cameras)
    dataset.check(config)
    space, split = dataset.action_space(config), dataset.split("val")
    known = space.normalise_state(split.state)
    start = np.arange(22) // 11 * 11
    before = np.arange(22) - start <= 5  # the first keyframe is still to come
    rows = np.stack([start + np.where(before, 5, 10), start + 10], axis=1)
    seen = 0
    for batch in pipeline.batches(dataset, "val", space, config, train=False):
        for state, target, mask in zip(batch.observation.state, batch.target, batch.mask.max(-1)):
            alike = np.flatnonzero(np.abs(state - known).max(1) < 1e-6)  # starts and rests look the same
            chunks = space.denormalise(np.repeat(target[None], len(alike), 0), split.state[alike, :3])
            fits = np.abs(chunks - split.actions[rows[alike]]).max((1, 2)) < 1e-3
            assert fits.any()
            row = alike[fits][0]
            assert mask.tolist() == [1, before[row]] and chunks[fits][0, 0, 7] == pytest.approx(0, abs=1e-3)
            seen += 1
    assert seen == 16  # two batches of the 22 rows


def test_keyframes_leave_the_stride_alone(rlbench_config):
    rlbench_config.action.keyframes, rlbench_config.action.stride = True, 2
    with pytest.raises(ValueError, match="config.action.stride is 2, but keyframes come as they are; leave it at 1"):
        config_lib.validate(rlbench_config)


def test_state_statistics_are_those_of_the_data(rlbench_config):
    dataset = DataSet(rlbench_config.data.path, rlbench_config.env.cameras)
    space, train = dataset.action_space(rlbench_config), dataset.split("train")
    np.testing.assert_allclose(space.state_mean, train.state.mean(0), rtol=1e-5, atol=1e-6)
    assert len(space.state_mean) == 10 and space.active[:, 0].any() and space.active[:, 9].any()
