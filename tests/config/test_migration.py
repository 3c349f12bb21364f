"""A configuration of an older release is read as what it meant; what is called otherwise now says so."""

import pytest

from configs import base
from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.config.migration import migrated, renamed
from drifting_vla_jax.policy.restore import RestoredPolicy
from drifting_vla_jax.report.run.reader import flatten
from drifting_vla_jax.train.assets import Assets
from tests.train.test_checkpoint import some_assets

OLD = {  # the section objective, every key of it, as version 0.4 wrote it into config.json
    "name": "flow_matching",
    "samples": 5,
    "temperatures": [0.3, 0.6],
    "in_reach": False,
    "anneal_from": 4.0,
    "anneal_until": 0.7,
    "grouping": "block",
    "flow_steps": 3,
    "bank": {"size": 2, "bandwidth": 0.4},
    "guidance": {"negatives": 1, "max_alpha": 3.0, "power": 2.0, "drop_instruction": 0.2, "alpha": 1.5},
}


def test_an_older_configuration_means_what_it_meant():
    written = config_lib.to_json(base.get_config()) | {"objective": OLD}
    config = config_lib.from_json(written)
    config_lib.validate(config)
    expected = base.get_config().objective
    expected.name = "flow_matching"
    expected.drifting.samples = expected.flow_matching.samples = 5
    expected.flow_matching.steps = 3
    expected.drifting.temperatures, expected.drifting.temperature_unit = (0.3, 0.6), "mean_distance"
    expected.drifting.temperature_anneal.initial_scale, expected.drifting.temperature_anneal.fraction = 4.0, 0.7
    expected.drifting.grouping = "block"
    expected.drifting.memory_bank.update(OLD["bank"])
    expected.drifting.guidance.update(OLD["guidance"])
    assert config.objective.to_dict() == expected.to_dict()
    assert migrated(config_lib.to_json(config)) == config_lib.to_json(config)
    assert written["objective"] is OLD and "bank" in OLD  # what was given is left alone
    assert flatten(migrated(written))["objective.flow_matching.steps"] == 3


def test_an_older_checkpoint_keeps_its_hash():
    """An evaluation that was begun before goes on: the hash is that of the configuration as it was written."""
    written = some_assets(base.get_config()).to_json()
    written["config"]["objective"], written["config_hash"] = OLD, "0123456789ab"
    policy = RestoredPolicy(Assets.from_json(written), {}, step=7)
    assert policy.metadata()["config_hash"] == "0123456789ab"
    assert policy.objective.evaluations_per_chunk == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("--config.objective.flow_steps", "config.objective.flow_steps is now config.objective.flow_matching.steps"),
        (
            "c.objective.bank.size = 3",
            "config.objective.bank.size is now config.objective.drifting.memory_bank.size",
        ),
        ("c.objective.drifting.samples = 3", None),
    ],
)
def test_an_old_key_is_named_with_its_new_name(text, line):
    assert renamed(text) == line


def test_a_file_with_an_old_key_says_where_and_what_it_is_now(tmp_path):
    file = tmp_path / "mine.py"
    lines = ("    c = base.get_config()", "    c.objective.in_reach = True", "    return c")
    file.write_text("\n".join(["from configs import base", "", "def get_config():", *lines]))
    with pytest.raises(
        config_files.ConfigFileError, match="line 5: config.objective.in_reach is now .*temperature_unit"
    ):
        config_files.load(str(file))


def test_an_old_key_on_the_command_line_too(monkeypatch):
    monkeypatch.setattr("sys.argv", ["main", "--config=base", "--config.objective.samples=4"])
    with pytest.raises(config_files.ConfigFileError, match="samples is now config.objective.drifting.samples and"):
        config_files._Parser().parse("base")
