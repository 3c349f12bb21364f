"""A policy needs its checkpoint and nothing else, and answers a request the same whatever else is in the batch."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from drifting_vla_jax.envs import registry
from drifting_vla_jax.policy.restore import fingerprint_of, load, restore
from drifting_vla_jax.rollout.episode import EpisodeSettings, EpisodeSpec, run_episode
from drifting_vla_jax.train import loop
from drifting_vla_jax.train.checkpoint import CheckpointError
from tests.small import CAMERAS, SIZE, small_config, write_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two steps of training; the data set is moved away before the policy is restored."""
    config, data, run = small_config(), tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run")
    config.data.path = str(write_dataset(data, episodes=6))
    config.train.steps, config.train.warmup_steps, config.train.eval_every, config.train.save_every = 2, 1, 2, 2
    loop.train(config, run, jax.devices()[:1])
    data.rename(data.with_name("gone"))
    return run


@pytest.fixture(scope="module")
def policy(run):
    return restore(run, batch_sizes=(1, 4))


def observation(index: int, **more) -> dict:
    rng = np.random.default_rng(index)
    return {
        "images": {camera: rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for camera in CAMERAS},
        "state": rng.uniform(0, 0.5, 4).astype(np.float32),
        "prompt": ("go to the red ball", "reach blue")[index % 2],
        "seed": index,
        **more,
    }


def test_an_answer_is_a_chunk_of_poses(policy):
    chunk = policy.infer([observation(0)])
    assert chunk.shape == (1, 4, 8) and chunk.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(chunk[..., 3:7], axis=-1), 1.0, atol=1e-6)
    assert (chunk[..., 6] >= 0).all() and (chunk[..., 7] >= 0).all() and (chunk[..., 7] <= 1).all()


def test_a_checkpoint_of_before_there_were_layouts_is_of_one_end_effector(run, policy, tmp_path):
    """Neither its configuration nor its statistics say so."""
    old = shutil.copytree(run, tmp_path / "old")
    (file,) = (old / "checkpoints" / "2" / "assets").rglob("metadata")
    assets = json.loads(file.read_text())
    for key in ("layout", "joints", "grippers"):
        del assets["config"]["action"][key]
    del assets["actions"]["layout"]
    file.write_text(json.dumps(assets))
    restored = restore(old)
    assert restored.metadata["action_dim"] == 8 and "action_names" not in restored.metadata
    np.testing.assert_array_equal(restored.infer([observation(0)]), policy.infer([observation(0)]))


def test_an_answer_depends_on_its_own_observation_and_seed_alone(policy):
    alone = policy.infer([observation(1)])[0]
    among = policy.infer([observation(2), observation(3), observation(1)])[2]
    np.testing.assert_allclose(alone, among, atol=1e-5)
    np.testing.assert_array_equal(alone, policy.infer([observation(1)])[0])
    assert np.abs(policy.infer([observation(1, seed=99)])[0] - alone).max() > 1e-5


def test_without_a_seed_every_answer_is_drawn_anew(policy):
    unseeded = {key: value for key, value in observation(1).items() if key != "seed"}
    assert np.abs(policy.infer([unseeded]) - policy.infer([unseeded])).max() > 1e-5


def test_several_samples_of_which_one_acts(policy, run):
    """The first is the one that is drawn alone; the one nearest to the mean is the same in any company."""
    alone = policy.infer([observation(1)])[0]
    first = restore(run, batch_sizes=(1,), num_samples=5)
    np.testing.assert_allclose(first.infer([observation(1)])[0], alone, atol=1e-5)
    typical = restore(run, batch_sizes=(1, 4), num_samples=5, choose="nearest_mean")
    assert (typical.metadata["num_samples"], typical.metadata["choose"]) == (5, "nearest_mean")
    chosen = np.stack([typical.infer([observation(i)])[0] for i in range(4)])
    together = typical.infer([observation(i) for i in range(4)])
    np.testing.assert_allclose(chosen, together, atol=1e-5)
    assert np.abs(chosen - policy.infer([observation(i) for i in range(4)])).max() > 1e-5  # not always the first


def test_what_clients_are_told(policy):
    told = policy.metadata
    assert told["cameras"] == list(CAMERAS) and told["image_size"] == SIZE and told["horizon"] == 4
    assert told["checkpoint_step"] == 2 and told["evaluations_per_chunk"] == 1 and told["objective"] == "drifting"
    assert "go to the red ball" in told["prompts"] and told["control_hz"] == 20.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": "x" * 200}, "200 bytes, at most 32"),
        ({"state": np.zeros(5, np.float32)}, "state"),
        ({"images": {"front": np.zeros((SIZE, SIZE, 3), np.uint8)}}, "side"),
    ],
)
def test_an_observation_that_cannot_be_used_is_refused(policy, change, message):
    policy.check(observation(0))
    with pytest.raises(ValueError, match=message):
        policy.check(observation(0, **change))


def test_its_weights_and_statistics_are_named(run, policy):
    """By content: the same from anywhere; another training's at the same step, or another scale of its answers, differ."""
    trained = load(run)
    assert policy.metadata["weights"] == trained.weights == trained.metadata()["weights"] != ""
    params, actions = {"a": {"b": np.ones(3, np.float32)}}, trained.assets.actions.to_json()
    other = {"a": {"b": np.array([1, 1, 1 + 2**-23], np.float32)}}
    scaled = dataclasses.replace(
        trained.assets, actions=type(trained.assets.actions).from_json(actions | {"state_std": [9.0] * 4})
    )
    named = [
        fingerprint_of(params, trained.assets),
        fingerprint_of(other, trained.assets),
        fingerprint_of(params, scaled),
    ]
    assert len(set(named)) == 3 and fingerprint_of(params, trained.assets) == named[0]


def test_nothing_to_restore(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint in .*; train first"):
        restore(tmp_path)


def test_a_step_that_is_not_there(run):
    with pytest.raises(CheckpointError, match="no checkpoint of step 7 .* there are: 2"):
        restore(run, step=7)


@pytest.mark.slow
def test_a_policy_that_looks_back_acts_in_a_simulator(tmp_path, dataset_path):
    """Its episodes show it the present images and those of two steps before, as in training."""
    config = small_config()
    config.data.path, config.model.history, config.model.history_stride = str(dataset_path), 1, 2
    config.train.steps, config.train.warmup_steps, config.train.eval_every, config.train.save_every = 2, 1, 2, 2
    loop.train(config, tmp_path, jax.devices()[:1])
    policy, shapes = restore(tmp_path), []

    class Client:
        def infer(self, request):
            policy.check(request)
            shapes.append(request["images"]["front"].shape)
            return {"actions": policy.infer([request])[0], "server_timing": {"infer_ms": 0.0}}

    env = registry.make("dummy", cameras=CAMERAS, image_size=SIZE, frame_skip=1)
    settings = EpisodeSettings.for_policy(policy.metadata, execute=2, max_steps=6, hold_steps=3)
    result = run_episode(env, Client(), EpisodeSpec("reach-red", 0, 0, 0), settings)
    env.close()
    assert result.outcome in ("success", "time_limit") and shapes and set(shapes) == {(2, SIZE, SIZE, 3)}
    with pytest.raises(ValueError, match=r"uint8 \[16, 16, 3\]; expected uint8 \[2, 16, 16, 3\]"):
        policy.check(observation(0))
