"""Which policies stand on a page of results, and what a run without an evaluation says of its network evaluations."""

import json

import pytest

from drifting_vla_jax.report.results.entries import read_entries

FLOW = {"objective.name": "flow_matching", "objective.flow_matching.steps": 3}


@pytest.mark.parametrize(
    ("changes", "start", "name", "objective"),
    [
        ({}, None, "drifting (1)", "drifting"),
        (FLOW, None, "flow matching (3)", "flow matching"),  # a run older than the entry in run.json
        (FLOW, {"started": "then"}, "flow matching (3)", "flow matching"),
        ({"objective.name": "my_lab.my_file:MyOwn"}, {"evaluations_per_chunk": 5}, "MyOwn (5)", "MyOwn"),
    ],
)
def test_a_run_without_an_evaluation_says_how_many_there_are_per_chunk(make_run, changes, start, name, objective):
    run = make_run(**changes)
    if start:
        (run / "run.json").write_text(json.dumps({"starts": [start]}))
    (entry,) = read_entries([run])
    assert (entry.name, entry.objective) == (name, objective)


def test_a_run_of_before_objectives_had_sections_is_read(make_run):
    run = make_run(**FLOW)
    config = json.loads((run / "config.json").read_text())
    config["objective"] = {
        "name": "flow_matching",
        "samples": 8,
        "flow_steps": 7,
        "in_reach": True,
        "bank": {"size": 0},
    }
    (run / "config.json").write_text(json.dumps(config))
    (entry,) = read_entries([run])
    assert (
        entry.name == "flow matching (7)"
        and entry.run.config["objective.drifting.temperature_unit"] == "nearest_positive"
    )
