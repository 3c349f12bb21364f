"""A data set without held-out episodes is trained on all the same: no validation error, no NaN, no figure, one line about it."""

import json
import logging
import math

from drifting_vla_jax.data.mixture import open_data
from drifting_vla_jax.report.run import page
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.validation import MixtureValidator, make_validator
from tests.small import episode, write_episodes

NO_EPISODE = "no episode of config.env.tasks is held out; nothing is validated or drawn there"


def test_one_episode_is_trained_on_resumed_reported_and_acts(train, config, single_path, tmp_path, caplog):
    config.data.path, config.env.tasks, config.train.steps = str(single_path), ("reach-red",), 4
    config.figures.A1_drifting_field = 1
    with caplog.at_level(logging.WARNING):
        train(tmp_path / "run")
    said = [record.getMessage() for record in caplog.records if "held out" in record.getMessage()]
    assert said == [f"{single_path}: {NO_EPISODE}, and the best checkpoint is the latest"]
    config.train.steps = 6
    train(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert not [name for line in lines for name in line if name.startswith("val/")]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert not (tmp_path / "run" / "figures").exists()
    page.write_report(tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(tmp_path / "run").best() == 6
    assert (
        f"no checkpoint in {tmp_path / 'run' / 'checkpoints'} was validated: the best is the latest, step 6"
        in caplog.text
    )


def held_out_of(config, data):
    config.data.path = str(data)
    dataset, mesh = open_data(config), sharding.single_device_mesh()
    return make_validator(dataset, dataset.action_space(config), config, mesh, NO_FROZEN_INPUTS, None, None)


def test_held_out_episodes_of_other_tasks_are_none(config, tmp_path, caplog):
    data = write_episodes(tmp_path / "set", [episode(0), episode(2), episode(1)], held_out=1)  # blue alone is held out
    config.env.tasks = ("reach-red",)
    assert held_out_of(config, data) is None and NO_EPISODE in caplog.text


def test_sets_of_a_mixture_that_hold_out_nothing_are_left_out(config, single_path, dataset_path, caplog):
    config.data.mixture.paths, config.data.mixture.weights = (str(single_path), str(dataset_path)), (3.0, 1.0)
    found = held_out_of(config, "")
    assert isinstance(found, MixtureValidator) and list(found._sets) == [dataset_path.name]
    assert f"{single_path}: {NO_EPISODE}\n" in caplog.text
