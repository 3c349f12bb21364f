"""What only readers of reports need never decides whether training goes on: damaged, it is set aside and said."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.train.monitoring import evaluations as rollouts
from drifting_vla_jax.train.monitoring import figures, loggers
from drifting_vla_jax.train.monitoring.run_info import RunInfo
from tests.small import small_config


def start(workdir: Path, step: int = 6) -> None:
    """What a resume after ``step`` steps does with its logs."""
    mesh = SimpleNamespace(devices=np.array([SimpleNamespace(device_kind="cpu")], object))
    with RunInfo(workdir, mesh, SimpleNamespace(metadata={"source": "x", "episodes": {}}), 1).running(step):
        journal = loggers.make_journal(workdir, small_config(), step, {})
        journal.commit(loggers.LogEntry(step + 1, {"loss": 0.5}))
        journal.close()
    config_lib.save(small_config(), workdir)


DAMAGED = {
    "run.json": [b"", b"\0" * 64, b"[1]", b'{"starts": 3}', b'{"starts": [3]}', b"\xff\xfe", b'{"starts": [', None],
    "metrics.jsonl": [b"[1]\n", b'{"a": 1}\n', b'{"step": true}\n', b'{"step": "1"}\n', b"\xff\xfe\n", b"\0\0\n", None],
    "config.json": [None],
}  # None: a folder lies there


@pytest.mark.parametrize(("name", "content"), [(name, content) for name in DAMAGED for content in DAMAGED[name]])
def test_training_goes_on_and_nothing_is_lost(name, content, tmp_path, caplog):
    path = tmp_path / name
    path.write_bytes(content) if content is not None else path.mkdir()
    with caplog.at_level(logging.WARNING):
        start(tmp_path)
    kept = tmp_path / f"{name}.damaged"
    assert kept.is_dir() if content is None else kept.read_bytes() == content
    assert f"{name} is set aside as {name}.damaged: " in caplog.text
    assert json.loads((tmp_path / "run.json").read_text())["starts"][-1]["error"] == ""
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().split("\n") if line] == [7]


def test_good_records_stay_and_a_second_damage_is_kept_beside_the_first(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        path.write_text('{"step": 1, "note": "a\u2028b"}\n{"loss": 1}\n{"step": 9}\n{"step": 2')
        start(tmp_path)
        steps = [json.loads(line)["step"] for line in path.read_text().split("\n") if line]
        assert steps == [1, 7]  # not 9, which comes again; the torn line was being written by a killed process
    assert sorted(p.name for p in tmp_path.glob("metrics*")) == [
        "metrics.jsonl", "metrics.jsonl.damaged", "metrics.jsonl.damaged-2"]  # fmt: skip


@hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.binary(max_size=12), st.just(b'{"step": 3}'), st.just(b'{"step": 30}')), max_size=6))
def test_any_bytes_end_in_records_of_steps(lines):
    content = b"\n".join(lines)
    kept, damaged = loggers._lines_until(6, content)
    assert all(json.loads(line)["step"] <= 6 for line in kept.split(b"\n") if line)
    assert kept.count(b'{"step": 3}') == content.split(b"\n").count(b'{"step": 3}')
    assert damaged or all(not line.strip() or b"step" in line for line in content.split(b"\n")[:-1])


def test_what_cannot_be_written_is_said(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    for module in ("train.monitoring.run_info", "config.io", "train.monitoring.loggers"):
        monkeypatch.setattr(f"drifting_vla_jax.{module}.write_atomically", full)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    start(tmp_path)
    assert "run.json is not written" in caplog.text and "metrics are not written" in caplog.text
    assert "config.json is not written" in caplog.text


def test_a_file_in_the_figures_place_and_a_damaged_result_stop_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(figures.background, "start", lambda *_, **__: SimpleNamespace(poll=lambda: 0))
    config = small_config()
    config.figures.A1_drifting_field, config.train.rollout_every = 1, 3
    (tmp_path / "figures").write_text("")
    (tmp_path / "eval").mkdir()
    drawn = figures.Figures(config, tmp_path).draw(
        ["A1_drifting_field"], SimpleNamespace(step=6, save=lambda path: path.parent.mkdir(parents=True))
    )
    assert drawn and (tmp_path / "figures.damaged").is_file() and (tmp_path / "figures/snapshots").is_dir()
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "eval" / "training-step3").mkdir()
    (tmp_path / "eval" / "training-step3" / "results.json").write_text(
        '{"overall": 3, "tasks": {}, "checkpoint_step": 3}'
    )
    monkeypatch.setattr(rollouts.background, "start", lambda *_, **__: SimpleNamespace(poll=lambda: 0, returncode=0))
    running = rollouts.BackgroundEvaluation(config, tmp_path)
    running.saved(3, last=False)
    assert running.finished() == rollouts.NOTHING
    assert "what the evaluation of step 3 found cannot be read" in caplog.text and "results.json" in caplog.text
