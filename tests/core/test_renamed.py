"""Names of version 0.1 go on to work for one release."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from drifting_vla_jax.core.renamed import MODULES, PACKAGE, SYMBOLS

ROOT = Path(__file__).parents[2]


def test_every_new_module_exists_and_no_old_one_does():
    for old, new in MODULES.items():
        file = ROOT.joinpath(PACKAGE, *new.split("."))
        assert file.with_suffix(".py").exists() or (file / "__init__.py").exists(), new
        if new != f"{old}.__init__":
            assert not ROOT.joinpath(PACKAGE, *old.split(".")).with_suffix(".py").exists(), old


def test_every_new_symbol_exists():
    for module, names in SYMBOLS.items():
        text = ROOT.joinpath(PACKAGE, *module.split(".")).with_suffix(".py").read_text()
        for new in names.values():
            assert f"def {new}(" in text or f"class {new}" in text or f"\n{new} = " in text or f"\n{new}: " in text, (
                f"{module}.{new}"
            )


def test_old_names_are_the_new_ones_and_say_so():
    sys.modules.pop(f"{PACKAGE}.train.sinks", None)
    with pytest.warns(FutureWarning, match=r"train\.sinks is drifting_vla_jax\.train\.monitoring\.loggers now"):
        from drifting_vla_jax.train.sinks import JsonlSink
    from drifting_vla_jax.train.monitoring.loggers import JsonlWriter

    assert JsonlSink is JsonlWriter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert importlib.import_module(f"{PACKAGE}.rollout.recorder").__name__ == f"{PACKAGE}.rollout.recorder"


def test_what_never_was_is_still_missing():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{PACKAGE}.train.no_such_thing")
    with warnings.catch_warnings(), pytest.raises(ImportError, match="NoSuchThing"):
        warnings.simplefilter("ignore")
        from drifting_vla_jax.train.sinks import NoSuchThing  # noqa: F401


def test_an_old_command_runs_the_new_one():
    command = [sys.executable, "-m", f"{PACKAGE}.rollout.robot_command", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == "error: --driver is missing."
