"""A run that is stopped or crashes ends as if nothing had happened; one that goes wrong says where."""

import json
import logging
import os
import signal

import jax
import numpy as np
import pytest

from drifting_vla_jax.core.folder_lock import InUseError, owned
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.train import loop
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.monitoring import loggers
from drifting_vla_jax.train.validation_metrics import METRICS

TRAIN = {"loss", "grad_norm", "lr", "centroid_error", "sample_spread", "collapsed_share", "drift_scale"}
TRAIN |= {
    "lambda_V",
    "raw_drift_norm",
    "drift_sq/0.1",
    "drift_sq/0.2",
    "drift_sq/0.5",
    "samples_per_second",
    "step_ms",
    "input_wait_share",
}
VALIDATION = {metric.name for metric in METRICS} - {"joint_error"} | {"loss", "lambda_V", "drift_norm"}


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def series(workdir, name):
    """[(step, value), ...] of what does not depend on the clock."""
    return [(line["step"], line[name]) for line in lines(workdir) if name in line]


def final(workdir, config, mesh):
    checkpoints = Checkpoints(workdir)
    return jax.device_get(checkpoints.restore_state(checkpoints.latest(), config, mesh))


def raise_after(monkeypatch, step, happen):
    """Calls ``happen`` once the metrics of a step are written."""
    write = loggers.JsonlWriter.write

    def write_and_then(self, record):
        write(self, record)
        if record.step == step and "train/loss" in record.scalars:
            happen()

    monkeypatch.setattr(loggers.JsonlWriter, "write", write_and_then)


@pytest.fixture
def uninterrupted(train, tmp_path):
    train(tmp_path / "uninterrupted")
    return tmp_path / "uninterrupted"


def assert_same_run(workdir, expected, config, mesh):
    """Bit-identical parameters, moments, data position; every step logged once with the same numbers."""
    jax.tree.map(np.testing.assert_array_equal, final(workdir, config, mesh), final(expected, config, mesh))
    for name in ("train/loss", "train/centroid_error", "val/position_error_cm", "val/sample_spread"):
        assert series(workdir, name) == series(expected, name)


def test_a_run_leaves_checkpoints_metrics_and_its_configuration(uninterrupted, config):
    steps = [line["step"] for line in lines(uninterrupted) if "train/loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    for line in lines(uninterrupted):  # one per step, whatever it brought
        validated = {f"val/{n}" for n in VALIDATION} if line["step"] in (3, 6) else set()
        assert set(line) == {f"train/{n}" for n in TRAIN} | validated | {"step"}
        assert all(np.isfinite(v) for v in line.values())
    assert [step for step, _ in series(uninterrupted, "val/gripper_accuracy")] == [3, 6]
    assert all(0 <= share <= 1 for _, share in series(uninterrupted, "train/input_wait_share"))
    assert json.loads((uninterrupted / "config.json").read_text())["name"] == "small"
    (start,) = json.loads((uninterrupted / "run.json").read_text())["starts"]
    assert (start["step"], start["error"]) == (0, "") and start["ended"] >= start["started"]
    assert Checkpoints(uninterrupted).latest() == 6


@pytest.mark.slow
def test_the_report_is_there_when_the_training_ends(train, tmp_path, config):
    config.train.report_every = 3
    train(tmp_path / "run")
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert '<span class="state finished">' in page and "6 of 6 steps" in page
    assert "ended" in json.loads((tmp_path / "run" / "run.json").read_text())["starts"][-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_started_again_is_the_same_run(
    train, uninterrupted, tmp_path, config, one_device, monkeypatch, number
):
    """Acceptance: train, stop, resume equals uninterrupted, bit by bit on one device."""
    with monkeypatch.context() as patch:
        raise_after(patch, 1, lambda: signal.raise_signal(number))
        train(tmp_path / "run")  # returns: the process would exit 0
    assert Checkpoints(tmp_path / "run").latest() == 2
    train(tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted, config, one_device)
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


class Crash(BaseException):
    """Nothing catches this one."""


@pytest.mark.slow
def test_crashed_and_started_again_is_the_same_run(train, uninterrupted, tmp_path, config, one_device, monkeypatch):
    """Steps after the last checkpoint are done again, and logged once."""

    def crash():
        raise Crash

    with monkeypatch.context() as patch:
        raise_after(patch, 5, crash)
        with pytest.raises(Crash):
            train(tmp_path / "run")
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "train/lo')  # the line it was writing
    train(tmp_path / "run")
    assert_same_run(tmp_path / "run", uninterrupted, config, one_device)


def test_a_finished_run_is_left_alone(train, uninterrupted, config):
    before = (uninterrupted / "metrics.jsonl").read_text()
    train(uninterrupted)
    assert (uninterrupted / "metrics.jsonl").read_text() == before


def test_what_changed_since_the_checkpoint_is_said(train, uninterrupted, config, caplog):
    config.name, config.train.keep = "renamed", 3
    with caplog.at_level(logging.WARNING, loop.__name__):
        train(uninterrupted)
    assert "resuming step 6 with another configuration: name: 'small' -> 'renamed'" in caplog.text
    assert "train.keep: 2 -> 3" in caplog.text


def poison(monkeypatch, call):
    """The call-th batch that goes to a device has a target that is not a number."""
    to_device, calls = pipeline.to_device, []

    def poisoned(batch, where):
        calls.append(batch)
        if len(calls) == call:
            batch = batch.replace(target=np.full_like(batch.target, np.nan))
        return to_device(batch, where)

    monkeypatch.setattr(pipeline, "to_device", poisoned)


def test_nan_stops_with_its_step_and_the_last_good_checkpoint(train, tmp_path, config, monkeypatch):
    config.train.log_every, config.train.eval_every, config.train.save_every = 3, 100, 2
    poison(monkeypatch, 5)
    with pytest.raises(loop.NonFiniteError, match=r"not finite at step 5; the last good checkpoint is step 4 in .*run"):
        train(tmp_path / "run")
    assert Checkpoints(tmp_path / "run").latest() == 4


def test_nan_before_any_checkpoint_says_that_there_is_none(train, tmp_path, config, monkeypatch):
    config.train.eval_every = 100
    poison(monkeypatch, 1)
    with pytest.raises(loop.NonFiniteError, match=r"not finite at step 1; there is no checkpoint yet"):
        train(tmp_path / "run")


def test_bad_input_leaves_nothing_behind(train, tmp_path, config):
    config.env.tasks = ("reach-red", "reach-green")
    with pytest.raises(ValueError, match="no demonstrations of 'reach-green'"):
        train(tmp_path / "run")
    config.data.path = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no data set at"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_training_in_the_workdir_is_refused_and_changes_nothing(train, tmp_path):
    with owned(tmp_path / "run"), pytest.raises(InUseError, match=f"run is in use by pid {os.getpid()} on host"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_signals_again_and_again_while_it_saves_lose_nothing(train, tmp_path, monkeypatch):
    save = Checkpoints.save

    def pressed(self, *args):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        return save(self, *args)

    monkeypatch.setattr(Checkpoints, "save", pressed)
    train(tmp_path)  # of the third step, when it is due
    assert Checkpoints(tmp_path).latest() in (3, 4)


def test_a_signal_during_the_start_ends_it_before_the_first_step(train, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    create = loop.create_state
    monkeypatch.setattr(loop, "create_state", lambda *args: signal.raise_signal(signal.SIGTERM) or create(*args))
    train(tmp_path)
    assert "SIGTERM: finishing" in caplog.text and "there is nothing to save" in caplog.text
    assert not (tmp_path / "metrics.jsonl").exists()


def test_what_ends_behind_the_progress_bar_does_not_end_the_training(train, tmp_path, monkeypatch):
    """Ctrl-C on ``train 2>&1 | tee log`` ends tee as well."""
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr("sys.stderr", os.fdopen(write, "w", buffering=1))
    train(tmp_path)
    assert Checkpoints(tmp_path).latest() == 6
