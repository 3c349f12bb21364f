"""Every number that a command takes has bounds, and what absl lets through is refused by the flag's name."""

import ast
import string
from pathlib import Path

import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core import flag_checks

ROOT = Path(__file__).parents[2] / "drifting_vla_jax"


def _numeric_flags():
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("DEFINE_integer", "DEFINE_float"):
                yield pytest.param(node, id=f"{path.relative_to(ROOT)}-{ast.literal_eval(node.args[0])}")


@pytest.mark.parametrize("call", _numeric_flags())
def test_every_numeric_flag_of_every_command_has_both_bounds(call):
    bounds = call.args[3:]
    assert len(bounds) == 2 or (len(bounds) == 1 and isinstance(bounds[0], ast.Starred))


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_float("rate", 0.1, "", 0.0, 1.0, flag_values=values)
    flags.DEFINE_string("out", None, "", flag_values=values)
    flags.DEFINE_string("camera", "", "", flag_values=values)
    flags.DEFINE_list("tasks", ["a"], "", flag_values=values)
    flags.DEFINE_list("split", [], "", flag_values=values)
    return values


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("--rate=nan", "--rate=nan: expected a finite number"),
        ("--out=", "--out is given, but empty: give it a value or leave it out"),
        ("--tasks=", "--tasks is given, but empty"),
        ("--tasks=a,,b", "--tasks=a,,b has an empty entry between its commas"),
        ("--tasks=a,", "--tasks=a, has an empty entry between its commas"),
        ("--out=a\x07", r"--out has the control character U\+0007 at character 1: 'a\\x07'"),
        ("--out=a\udcff", r"--out has a lone surrogate, U\+DCFF, at character 1"),
        ("--out=" + "a" * 20_000, "--out has 20000 characters; at most 10000 are accepted"),
    ],
)
def test_what_nobody_means_is_refused(given_, said):
    values = _flags()
    values(["command", given_])
    with pytest.raises(ValueError, match=said):
        flag_checks.check(values)


@pytest.mark.parametrize("given_", ["--camera=", "--split=", "--out=a\u2028b", "--tasks=تناول الكوب,取る", "--rate=1"])
def test_what_somebody_may_mean_is_not(given_):
    values = _flags()
    values(["command", given_])
    flag_checks.check(values)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["rate", "out", "camera", "tasks", "split"]),
    text=st.text(max_size=12) | st.text(string.digits),
)
def test_no_value_of_a_flag_ends_in_another_error(name, text):
    values = _flags()
    try:
        values(["command", f"--{name}={text}"])
        flag_checks.check(values)
    except (flags.Error, ValueError) as error:
        assert name in str(error)
