"""What version 0.1 wrote still loads: a data set, a checkpoint with a bank of positives, a run's files, an evaluation.

``fixtures/v0.1.tar.xz`` was written by that version: three steps of ``tests.small`` at width 8 with ``objective.bank.size`` 2,
``in_reach``, ``anneal_from`` 2 and ``anneal_until`` 0.5, and one episode. Version 0.1 itself resumed to step 5 with these losses.
"""

import json
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.config import io
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.report.run.page import write_report
from drifting_vla_jax.train import loop
from drifting_vla_jax.train.checkpoint import Checkpoints

ARCHIVE = Path(__file__).parent / "fixtures" / "v0.1.tar.xz"
LOSSES = {4: 8.07816887, 5: 8.57910442}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The folder with ``run`` and ``set``, which the run's configuration names relative to it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path / "v0.1")
    return tmp_path / "v0.1"


@pytest.mark.slow
def test_a_run_resumes(old):
    config = io.from_json(json.loads(Path("run/config.json").read_text())).unlock()
    config.train.steps = config.train.save_every = 5
    loop.train(config, old / "run", jax.devices()[:1])
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert set(losses) == {1, 2, 3, 4, 5} and Checkpoints(old / "run").latest() == 5
    np.testing.assert_allclose([losses[step] for step in LOSSES], list(LOSSES.values()), rtol=1e-4)


@pytest.mark.slow
def test_a_checkpoint_acts(old):
    policy = restore(old / "run", batch_sizes=(1,))
    image = np.zeros((16, 16, 3), np.uint8)
    observation = {
        "images": {"front": image, "side": image},
        "state": np.zeros(4, np.float32),
        "prompt": "reach red",
        "seed": 0,
    }
    chunk = policy.infer([observation])
    assert chunk.shape == (1, 4, 8) and np.isfinite(chunk).all()


def test_its_page_shows_metrics_and_evaluation(old):
    page, _ = write_report(old / "run")
    text = page.read_text()
    assert "step3-seed1000000000" in text or "step 3" in text
    assert "val/position_error_cm" in text and "drift_norm" in text
