"""What a type cannot say about a configuration is said before anything starts, in the user's words."""

import pytest

from configs import base
from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.config.io import validate

JOINTS = {"action.layout": "joints", "action.joints": ("a", "b")}
MIXED = {"data.mixture.paths": ("data/a", "data/b")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serve.num_samples": 0}, "config.serve.num_samples is 0; expected a whole number, at least 1 and at most"),
        ({"serve.choose": "best"}, "config.serve.choose is 'best'; expected first or nearest_mean"),
        ({"serve.choose": "nearest_mean", "serve.num_samples": 2}, "nearest_mean of 2 samples; of fewer than 3"),
        ({"eval.execution": "fast"}, "config.eval.execution is 'fast'; expected receding or ensemble or async"),
        ({"eval.ensemble_decay": -0.1}, "config.eval.ensemble_decay is -0.1; expected a number, at least 0 and"),
        ({"eval.latency_ms": 80.0}, "config.eval.latency_ms is 80, but only execution async acts while it waits"),
        ({"env.metaworld.change": "rain"}, "config.env.metaworld.change is 'rain'; expected none or words or camera"),
        ({"env.name": "robosuite"}, "config.env.state_dim is 4; robosuite's state has 10 numbers: expected 10"),
        (
            {"figures.theme": "sepia"},
            "config.figures.theme is 'sepia'; expected light or dark or paper or presentation",
        ),
        ({"figures.D3_latency": -1}, "config.figures.D3_latency is -1; expected a whole number, at least 0"),
        ({"train.rollout_every": 300}, "rollout_every is 300; expected 0 or a multiple of config.train.save_every 200"),
        ({"eval.execution": "async", "eval.lead_steps": 5}, "lead_steps 5 is more than the actions executed, .* 4"),
        ({"data.mixture.weights": (1.0,)}, "weights has 1 weights for 0 paths; expected one each, or none: all alike"),
        (
            {**MIXED, "data.mixture.weights": (1.0, 0.0)},
            r"weights is .1.0, 0.0.; of 0.0: expected a number, above 0 and",
        ),
        (
            {**MIXED, "data.mixture.weights": (1.0, 1e-5)},
            "weights has 1e-05, less than 0.0001 of all; take that set out",
        ),
        ({"data.mixture.paths": ("a", ".")}, "paths has '.'; sets go by the ends of their paths"),
        ({"data.mixture.paths": ("x/a", "y/a")}, "paths has two sets called 'a'; rename a folder"),
        ({**MIXED, "serve.dataset": "c"}, "config.serve.dataset is 'c'; expected a or b, or '' for the first"),
        ({"action.layout": "legs"}, "config.action.layout is 'legs'; expected end_effector or bimanual or joints"),
        ({"action.layout": "joints"}, "config.action.layout is joints, but config.action.joints names none"),
        ({"action.joints": ("a",)}, "joints and grippers name a, but config.action.layout is end_effector; leave them"),
        ({**JOINTS, "action.grippers": ("a",)}, "config.action.joints and grippers name a more than once"),
        ({"action.layout": "bimanual"}, "state_dim is 4; with .* bimanual the state begins with the 6 values"),
        (
            {**JOINTS, "objective.name": "flow_matching"},
            "noise_dim is 10; flow matching .* layout joints .a, b. expected 2",
        ),
        (
            {**JOINTS, "train.rollout_every": 200},
            "rollout_every is 200, but simulators move one end effector; set it to 0",
        ),
        ({"data.shift": 64}, "config.data.shift is 64; expected less than the picture's config.env.image_size 64"),
        ({"train.micro_batches": 3}, "config.data.batch_size 64 does not divide into config.train.micro_batches 3"),
        ({"mesh.fsdp": -1}, "config.mesh has .*; one axis may be -1"),
        ({"eval.hold_steps": 251}, "hold_steps 251 is more than config.eval.max_steps 250: no episode could succeed"),
        (
            {"objective.drifting.samples": 1},
            "config.objective.drifting.samples is 1; expected a whole number, at least 2",
        ),
        ({"model.mlp_ratio": 0.1}, "config.model.mlp_ratio is 0.1; of the text width 64 no MLP's hidden width is left"),
        ({"train.wandb_project": "a/b"}, "config.train.wandb_project is 'a/b'; WandB takes"),
        ({"serve.api_key": "schlüssel"}, "config.serve.api_key has characters that no HTTP header carries"),
        ({**MIXED, "data.features": True}, "features reads what was stored of one data set; leave .*paths empty"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    config = base.get_config()
    validate(config)
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_an_older_configuration_is_of_one_data_set_and_one_end_effector():
    written = config_lib.to_json(base.get_config())
    del written["data"]["mixture"], written["serve"]["dataset"]
    del written["action"]["layout"], written["action"]["joints"], written["action"]["grippers"]
    config = config_lib.from_json(written)
    validate(config)
    assert config_lib.differences(config, base.get_config()) == []
