"""The last line of stderr is the error, however a command fails (``command_ends.py`` makes them fail)."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from drifting_vla_jax.core import cli, flag_checks

PACKAGE = Path(cli.__file__).parents[1]
COMMANDS = [path for path in sorted(PACKAGE.rglob("*.py")) if '__name__ == "__main__"' in path.read_text()]


@pytest.fixture(scope="module")
def ends(tmp_path_factory) -> dict[str, list]:
    script, place = Path(__file__).with_name("command_ends.py"), tmp_path_factory.mktemp("away")
    env = {k: v for k, v in os.environ.items() if k != "COPPELIASIM_ROOT"} | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, script, place], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not list(place.iterdir())  # refused before anything was made
    return json.loads(done.stdout)


FINE = ("fine", "returns", "no stderr")


@pytest.mark.slow
def test_the_last_line_is_the_error(ends):
    failed = {case: end for case, end in ends.items() if case not in FINE}
    assert len(failed) > 30
    for case, (code, _, said) in failed.items():
        assert code != 0 and said.endswith("\n"), (case, said)
        assert said.split("\n")[-2].startswith("error: "), (case, said)  # of its own, not after a bar and a \\r
        assert "Traceback" not in said and said.count("error: ") == 1, (case, said)


@pytest.mark.slow
def test_what_it_says(ends):
    assert ends["fine"] == [0, "done\n", ""] and ends["returns"][0] == 7 and ends["no stderr"] == [1, "", ""]
    last = {case: (code, said.split("\n")[-2]) for case, (code, _, said) in ends.items() if case not in FINE}
    assert last["bar without end"] == (1, "error: two bars, three lines")
    assert last["unprintable"] == (1, r"error: caf\xe9\u001b[2J\u202e\ud800 next")
    assert ends["unprintable"][1] == "caf\\xe9 \\u2713\n"
    assert last["no words"] == (1, "error: TimeoutError") and last["no memory"] == (1, "error: MemoryError")
    assert last["full disk"] == (1, "error: [Errno 28] No space left on device")
    assert last["printed to nobody"] == (1, "error: the output goes nowhere: what read it has ended")
    assert last["interrupted"] == (130, "error: interrupted")
    assert last["rollout.worker --out=gs://bucket/x"][1].startswith(
        "error: flag --out=gs://bucket/x: 'gs://bucket/x' is in"
    )
    assert last["evaluate.compare"] == (2, "error: --a is missing. --b is missing.")


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_command_ends_in_one_way(path):
    """It begins with cli.run, or calls a function that does; no command has an end of its own."""
    text = path.read_text()
    if path.name == "robot.py":  # whose command is beside it
        text += path.with_name("robot_command.py").read_text()
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
    assert "cli.run" in calls and not calls & {"app.run", "sys.exit", "os._exit"}


def test_paths_in_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS", "runs//")
    monkeypatch.setenv("HOME", str(tmp_path))
    values = flags.FlagValues()
    cli.define_path("workdir", None, "", flag_values=values)
    cli.define_path("out", "", "", writes="folder", flag_values=values)
    cli.define_path("page", None, "", writes="file", flag_values=values)
    cli.define_path("model", None, "", hub=True, flag_values=values)
    cli.define_paths("runs", None, "", flag_values=values)
    values(["", "--workdir=~/mine/", "--model=hf://openai/clip", "--runs=$RUNS/a, ~/b/", "--page=new/x.html"])
    assert (values.workdir, values.out, values.model) == (f"{tmp_path}/mine", "", "openai/clip")
    assert values.runs == ["runs/a", f"{tmp_path}/b"] and values.page == "new/x.html"
    Path("file").write_text("")
    bad = {"workdir": "s3://b", "out": "file/deeper", "page": ".", "model": "gs://b/m", "runs": "a,$UNSET_HERE/b"}
    for name, text in bad.items():
        with pytest.raises(flags.IllegalFlagValueError, match=f"flag --{name}="):
            values(["", f"--{name}={text}"])
    values(["", "--out="])
    with pytest.raises(ValueError, match="--workdir is given, but empty"):
        flag_checks.check(values(["", "--workdir="]) and values)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
