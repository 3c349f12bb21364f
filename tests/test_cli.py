"""Bad input on the command line: one line on stderr, a non-zero exit, nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAIN = ("drifting_vla_jax.main", "--config=configs/quickstart.py")


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            (*MAIN, "--config.train.learning_rat=1"),
            "unknown configuration key 'learning_rat'; did you mean 'learning_rate'?",
        ),
        ((*MAIN, "--workdir=w", "--config.action.horizon=0"), "config.action.horizon is 0; expected at least 1"),
        ((*MAIN, "--mode=eval"), "--mode=eval needs --workdir=DIR"),
        ((*MAIN, "--workdir=nowhere", "--mode=eval"), "no checkpoint in nowhere; train first"),
        ((*MAIN, "--workdir=w", "--config.data.path=nowhere"), "no data set at nowhere; make one with"),
        (("drifting_vla_jax.main", "--config=configs/nope.py"), "no configuration file configs/nope.py"),
        (
            ("drifting_vla_jax.data.build", "--source=metaworld", "--tasks=drawer-opn", "--out=w"),
            "unknown task 'drawer-opn' of metaworld; did you mean 'drawer-open'?",
        ),
    ],
)
def test_one_clear_line(command, message):
    done = run(*command)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (ROOT / "w").exists()


@pytest.mark.slow
def test_describe_needs_no_data():
    done = run(*MAIN, "--mode=describe")
    assert done.returncode == 0, done.stderr
    assert "trainable" in done.stdout and "network evaluation" in done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.stem)
def test_every_configuration_is_valid(path):
    import runpy

    from drifting_vla_jax.config import validate

    validate(runpy.run_path(str(path))["get_config"]())
