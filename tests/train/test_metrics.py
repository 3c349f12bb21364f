"""What is logged arrives: in metrics.jsonl, and in a real WandB run without an account."""

import json

import numpy as np
import pytest

from drifting_vla_jax.data.actions import ActionSpace
from drifting_vla_jax.train import metrics
from drifting_vla_jax.types import NETWORK_ACTION_DIM
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


def test_errors_by_hand():
    """One step, position only: experts at 0 and 3 cm; samples 1 cm to either side of the first, at 4 and 4 cm beside the
    second."""
    scale = np.ones((1, NETWORK_ACTION_DIM))
    scale[0, :3] = 0.01  # network units are centimetres
    actions = ActionSpace("absolute", np.zeros_like(scale), scale, np.zeros(4), np.ones(4))
    identity = [1, 0, 0, 0, 1, 0]

    def chunk(x):
        return np.array([x, 0, 0, *identity, 1], np.float32)

    samples = np.array([[[chunk(-1)], [chunk(1)]], [[chunk(4)], [chunk(4)]]])
    target = np.array([[chunk(0)], [chunk(3)]])
    mask = np.zeros_like(target)
    mask[..., 0] = 1
    found = metrics.action_errors(samples, target, mask, np.zeros((2, 4), np.float32), actions)
    assert found["position_error_cm"] == pytest.approx(1.0, abs=1e-4)
    assert found["centroid_error"] == pytest.approx(0.5**0.5)
    assert found["sample_spread"] == pytest.approx(0.5**0.5)
    assert found["collapsed_share"] == 0.5
    assert found["energy_score"] == pytest.approx(((1 - 2 / 2) + (1 - 0)) / 2)
    assert found["spread_ratio"] == pytest.approx(
        0.5**0.5 / (3 / 2**0.5)
    )  # experts 3 apart: 3 / sqrt(2) from each other
    assert found["rotation_error_deg"] == pytest.approx(0, abs=0.1) and found["gripper_accuracy"] == 1.0
