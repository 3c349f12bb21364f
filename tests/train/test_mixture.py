"""Several data sets through the real loop: each reported by itself, the restart exact, the policy at home in any of them."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from drifting_vla_jax.evaluate import checkpoint as evaluating
from drifting_vla_jax.policy.export import lower
from drifting_vla_jax.policy.restore import load, make_policy, restore
from drifting_vla_jax.train import loop, sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from tests.small import MIXED_TASKS, SETS, SIZE


@pytest.fixture
def config(mixed_config):
    t = mixed_config.train
    t.steps, t.eval_every, t.save_every, t.keep = 4, 4, 2, 3
    return mixed_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(config, runs):
    """Four steps of training, once for all tests here."""
    if not (runs / "whole").exists():
        loop.train(config, runs / "whole", jax.devices()[:1])
    return runs / "whole"


def observation(cameras, index=0):
    rng = np.random.default_rng(index)
    images = {camera: rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for camera in cameras}
    return {"images": images, "state": np.float32([0.1, 0.5, 0.2, 1]), "prompt": "lift it", "seed": index}


def test_every_set_is_reported_and_their_weighted_mean(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if np.isfinite(line["train/loss"])] == [1, 2, 3, 4]
    found = lines[-1]
    for metric in ("position_error_cm", "gripper_accuracy", "loss"):
        each = [found[f"val/{metric}/{name}"] for name in SETS]
        assert found[f"val/{metric}"] == pytest.approx(np.average(each, weights=[5, 3, 2]), rel=1e-6)
    assert (
        found["val/position_error_cm/front"] > 2 * found["val/position_error_cm/side"]
    )  # it is fifteen times as large
    (start,) = json.loads((run / "run.json").read_text())["starts"]
    assert start["data"]["steps"] == {"train": 144, "val": 72}


def test_going_on_from_a_checkpoint_is_the_uninterrupted_run(run, config, tmp_path):
    """Acceptance: bit by bit, and at the same sample."""
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    loop.train(config, tmp_path / "run", jax.devices()[:1])
    mesh = sharding.single_device_mesh()
    whole, again = (Checkpoints(folder).restore_state(4, config, mesh) for folder in (run, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(again))
    assert whole[1] == {"samples": 4 * 8}


def test_the_policy_acts_for_the_set_that_it_is_told(run, set_paths):
    """Its cameras, its tasks, its rate and its metres; the first set unless told otherwise."""
    spans = {}
    for name, cameras in SETS.items():
        policy = restore(run, dataset=name)
        told = policy.metadata
        assert (told["dataset"], told["cameras"]) == (name, list(cameras))
        assert told["control_hz"] == (10.0 if name == "side" else 20.0)
        assert tuple(told["tasks"]) == (MIXED_TASKS[2:] if name == "side" else MIXED_TASKS[:2])
        policy.check(observation(cameras))
        chunk = policy.infer([observation(cameras)])
        assert chunk.shape == (1, 4, 8) and np.isfinite(chunk).all()
        spans[name] = policy._actions.std[0, :3].max()
    assert spans["front"] > spans["both"] > spans["side"]
    assert restore(run).metadata["dataset"] == "both"
    with pytest.raises(
        ValueError, match=r"config.serve.dataset is 'kitchen'; the policy has learned from both, front, side"
    ):
        restore(run, dataset="kitchen")


def test_a_policy_for_a_set_is_asked_for_its_views_alone(run):
    """The network's own call and the exported one take the one view of "front"; what is on it counts."""
    trained = load(run, dataset="front")
    policy, text = make_policy(trained), trained.encode_text(trained.params, jnp.ones((1, 32), jnp.int32))
    state, seeds = np.zeros((1, 4), np.float32), np.zeros(1, np.uint32)
    front = observation(["front"])["images"]["front"][None, None]
    alone = np.asarray(policy._act(front, state, text, seeds))
    other = np.asarray(policy._act(255 - front, state, text, seeds))
    assert alone.shape == (1, 4, 10) and np.abs(alone - other).max() > 1e-6
    exported = lower(trained, flatten_dict(trained.params, sep="/"), ("cpu",), 1, "first")["act.bin"]
    assert (1, SIZE, SIZE, 3) in [tuple(aval.shape[1:]) for aval in exported.in_avals]


def test_evaluations_are_of_the_tasks_of_that_set(run, config):
    policy = restore(run, dataset="side")
    assert evaluating.tasks(policy.metadata, config) == ("lift-green",)
    assert evaluating.folder(policy.metadata, config, run).name == f"step4-seed{config.eval.seed}-side"
    config.env.tasks = ("reach-red",)
    with pytest.raises(
        ValueError, match="config.env.tasks are reach-red; of side, which the policy acts for, it knows lift"
    ):
        evaluating.tasks(policy.metadata, config)


def test_a_run_does_not_go_on_with_other_sets(run, config, dataset_path):
    config.train.steps = 6
    config.data.mixture.paths = config.data.mixture.paths[:2] + (str(dataset_path),)
    config.env.tasks = MIXED_TASKS[:2]
    with pytest.raises(
        ValueError, match=r"statistics of both, front, side, config.data.mixture.paths names both, front, dat"
    ):
        loop.train(config, run, jax.devices()[:1])
    config.data.mixture.paths, config.data.mixture.weights, config.data.path = (), (), str(dataset_path)
    with pytest.raises(
        ValueError, match=r"statistics of both, front, side, config.data.mixture.paths names none; go on"
    ):
        loop.train(config, run, jax.devices()[:1])
