"""The code of docs/how-to/add-an-objective.md: an objective outside the package trains, goes on, acts and is refused."""

import json

import jax
import numpy as np
import pytest

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.config.io import flatten, validate
from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured, folder
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import loop, sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from tests.pages import write_code
from tests.small import small_config


@pytest.fixture
def page_config(tmp_path, monkeypatch):
    """The configuration of the page, beside its objective, where a user would have them."""
    write_code("add-an-objective.md", tmp_path, monkeypatch)
    return config_files.load(str(tmp_path / "my_config.py"))


def test_the_configuration_of_the_page_is_whole_and_checked(page_config):
    validate(page_config)
    page_config.objective.huber.delta = -1.0
    with pytest.raises(ConfigError, match=r"config.objective.huber.delta is -1.0; expected a number, above 0"):
        validate(page_config)
    with page_config.unlocked():
        del page_config.objective.huber["delta"]
        page_config.objective.huber.dleta = 1.0
    with pytest.raises(
        ConfigError, match="huber.dleta is no key; did you mean 'delta'.; config.objective.huber.delta is missing"
    ):
        validate(page_config)


@pytest.mark.slow
def test_it_trains_goes_on_and_is_evaluated(page_config, dataset_path, tmp_path):
    config = small_config().unlock()
    config.objective, config.data.path = page_config.objective, str(dataset_path)
    config.lock()
    config.train.steps, config.train.warmup_steps, config.train.eval_every, config.train.save_every = 2, 1, 2, 1
    config.eval.episodes, config.eval.workers, config.eval.max_steps, config.eval.videos = 1, 1, 12, 0
    config.env.tasks = config.env.tasks[:1]
    validate(config)
    one, workdir = jax.devices()[:1], tmp_path / "run"
    loop.train(config, workdir, one)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    errors = [line["train/mean_error"] for line in lines if "train/mean_error" in line]
    mesh = sharding.make_mesh(config, one)
    states = [Checkpoints(workdir).restore_state(step, config, mesh)[0].objective_state for step in (1, 2)]
    np.testing.assert_allclose(states[0], 0.99 + 0.01 * errors[0], rtol=1e-6)
    np.testing.assert_allclose(states[1], 0.99 * states[0] + 0.01 * errors[1], rtol=1e-6)

    saved = config_files.load(str(workdir / "config.json"))  # of the run, with the section of its own
    assert dict(flatten(saved))["objective.huber.decay"] == 0.99
    policy = restore(workdir, batch_sizes=batch_sizes(config))
    assert policy.metadata["objective"] == "my_objective:Huber" and policy.metadata["evaluations_per_chunk"] == 1
    results = evaluate_configured(policy, config, folder(policy.metadata, config, workdir))
    assert results["overall"]["n"] == 1 and results["objective"] == "my_objective:Huber"
