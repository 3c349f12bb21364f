"""What is logged arrives: in metrics.jsonl, and in a real WandB run without an account."""

import json

import pytest

from drifting_vla_jax.train import metrics
from tests.small import small_config


def test_lines_after_the_checkpoint_go(tmp_path):
    sink = metrics.JsonlSink(tmp_path, 0)
    for step in (1, 2, 3):
        sink.write(step, {"train/loss": step / 2})
    sink.close()
    metrics.JsonlSink(tmp_path, 2).close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 1.0}]


@pytest.mark.slow
def test_without_a_key_wandb_writes_an_offline_run_that_a_resume_continues(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = small_config()
    config.train.wandb = "auto"
    for step in (1, 2):
        sinks = metrics.make_sinks(tmp_path, config, step - 1)
        sinks.write(step, {"train/loss": 0.5})
        sinks.close()
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert runs and len({run.name.split("-")[-1] for run in runs}) == 1
    assert all(list(run.glob("*.wandb")) for run in runs)


def test_a_sink_that_fails_is_named_once_and_dropped(caplog):
    class Broken:
        def write(self, step, values):
            raise OSError("no space")

    sinks = metrics.Sinks([Broken()])
    sinks.write(1, {})
    sinks.write(2, {})
    assert caplog.text.count("Broken failed and is off from now on: no space") == 1
