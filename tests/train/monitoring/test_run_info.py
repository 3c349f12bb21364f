"""run.json: which code, on what, with which data, from when to when, and how it ended."""

import json
import subprocess
from datetime import datetime

import jax
import pytest

from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.train.monitoring import run_info


@pytest.fixture
def starting(tmp_path, config, one_device):
    return run_info.RunInfo(tmp_path, one_device, DataSet(config.data.path, config.env.cameras), 1)


def starts(folder):
    return json.loads((folder / "run.json").read_text())["starts"]


def test_a_start_and_its_end(starting, tmp_path):
    with starting.running(3):
        (during,) = starts(tmp_path)
        assert during["step"] == 3 and "ended" not in during
    (after,) = starts(tmp_path)
    assert datetime.fromisoformat(after["started"]) <= datetime.fromisoformat(after["ended"])
    assert after["error"] == ""
    assert after["devices"] == {"kind": "cpu", "count": 1, "processes": 1}
    assert after["packages"]["jax"] == jax.__version__
    assert after["data"] == {"source": "test", "episodes": {"train": 6, "val": 2}, "steps": {"train": 72, "val": 24}}


def test_every_start_is_kept_and_an_error_is_named(starting, tmp_path):
    with starting.running(0):
        pass
    with pytest.raises(RuntimeError, match="more"), starting.running(5):
        raise RuntimeError("no\nmore")
    first, second = starts(tmp_path)
    assert (first["step"], first["error"], second["step"], second["error"]) == (0, "", 5, "RuntimeError: no more")


def test_only_the_first_process_writes(starting, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with starting.running(0):
        pass
    assert not (tmp_path / "run.json").exists()


def test_commit_and_changes(tmp_path, monkeypatch):
    def git(*command):
        who = ("-c", "user.name=t", "-c", "user.email=t@t")
        return subprocess.run(
            ["git", "-C", tmp_path, *who, *command], check=True, capture_output=True, text=True
        ).stdout

    assert run_info.code_version(tmp_path) is None  # no repository
    git("init")
    assert run_info.code_version(tmp_path) is None  # no commit
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    commit = git("rev-parse", "HEAD").strip()
    (tmp_path / "b").write_text("untracked: not what runs")
    assert run_info.code_version(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a").write_text("2")
    assert run_info.code_version(tmp_path) == {"commit": commit, "dirty": True}
    (tmp_path / "inside").mkdir()
    assert run_info.code_version(tmp_path / "inside") is None  # the commit would be another project's
    monkeypatch.setenv("PATH", "")
    assert run_info.code_version(tmp_path) is None  # no git
