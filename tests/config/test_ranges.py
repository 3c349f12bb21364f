"""Every key of configs/base.py has a row that says what it may be, and nonsense for any of them is one ConfigError."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import base
from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.config import ranges as config_ranges
from drifting_vla_jax.config.checks import ConfigError, validate
from drifting_vla_jax.core import ranges
from drifting_vla_jax.core.registry import load
from drifting_vla_jax.core.settings import rows
from drifting_vla_jax.objectives.registry import OBJECTIVES

CLASSES = {f"objective.{name}": load("objective", OBJECTIVES, name).Settings for name in OBJECTIVES}
PLUGINS = {f"{section}.{key}": row for section, cls in CLASSES.items() if cls for key, row in rows(cls).items()}
LEAVES = dict(config_lib.flatten(base.get_config()))
NUMBERS = [key for key, value in LEAVES.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
NONSENSE = (math.nan, math.inf, -math.inf, -1e30, 1e30, "1", None)
NEGATIVE_MEANS_SOMETHING = ("mesh.data", "mesh.fsdp", "mesh.tensor", "eval.latency_ms")


def _set(key: str, value):
    """The base configuration with one key set as a file could set it, whatever its type."""
    config = base.get_config().unlock()
    *parents, leaf = key.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    with section.ignore_type():
        section[leaf] = value
    return config


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_has_a_row_that_its_default_fits(key):
    row = config_ranges.row_of(key) or PLUGINS.get(key)
    assert row is not None and row.problem(LEAVES[key]) is None
    assert isinstance(row, ranges.Number) == (key in NUMBERS)


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_that_makes_no_sense_is_refused_by_its_name(key):
    whole = isinstance(LEAVES[key], int)
    nonsense = (*NONSENSE, *((True, 1.5, 10**30) if whole else ()), *(() if key in NEGATIVE_MEANS_SOMETHING else (-1,)))
    for value in nonsense:
        with pytest.raises(ConfigError, match=f"^config.{key} is .*expected a (whole )?number"):
            validate(_set(key, value))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("objective.drifting.temperatures", (), "it has 0 entries; expected at least 1"),
        ("objective.drifting.temperatures", (0.1, math.nan), "of nan: expected a number, above 0"),
        ("objective.drifting.temperatures", (0.1, "0.2"), "of '0.2': expected a number"),
        ("objective.drifting.temperatures", (0.1, 0.1), "it has 0.1 more than once"),
        ("objective.drifting.temperatures", 0.1, "expected a tuple"),
        ("env.tasks", ("a", "a"), "it has 'a' more than once"),
        ("env.tasks", "drawer-open", "expected a tuple"),
        ("env.tasks", ("a\x00b",), "U\\+0000"),
        ("env.cameras", ("top", 3), "of 3: it is no text but int"),
        ("serve.batch_sizes", (1, 2.0), "of 2.0: expected a whole number"),
        ("serve.batch_sizes", (True,), "of True: expected a whole number"),
        ("train.freeze", ("visio",), "of 'visio': expected vision or text or"),
        ("model.scan_layers", 1, "expected True or False"),
        ("data.path", "", "expected some text"),
        ("name", "a\ud800", "lone surrogate"),
        ("train.wandb", True, "expected auto or off"),
        ("train.b1", 1.0, "below 1"),
        ("train.ema_decay", 1.0, "below 1"),
        ("train.learning_rate", 0.0, "above 0"),
        ("serve.port", 65536, "at most 65535"),
        ("mesh.data", 0, "at least 1 and at most 1048576, or -1"),
    ],
)
def test_other_nonsense_too(key, value, said):
    with pytest.raises(ConfigError, match=f"config.{key} is .*{said}"):
        validate(_set(key, value))


def test_numbers_of_numpy_and_whole_floats_are_numbers():
    validate(_set("train.learning_rate", np.float32(1e-3)))
    validate(_set("train.steps", np.int64(2000)))
    validate(_set("train.weight_decay", 0))


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=4)), max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(key=st.sampled_from(sorted(LEAVES)), value=ANYTHING)
def test_no_value_of_any_key_ends_in_another_error(key, value):
    try:
        config = _set(key, value)
        validate(config)
    except ConfigError as error:
        assert key.split(".")[0] in str(error) and str(error).isprintable()
    else:
        kept = dict(config_lib.flatten(config))[key]  # ConfigDict makes floats of what is declared as one
        assert (config_ranges.row_of(key) or PLUGINS[key]).problem(kept) is None
