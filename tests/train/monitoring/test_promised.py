"""Every curve, panel and video that the project promises: under its key in a WandB run, and as a file."""

import json

import jax
import pytest

from drifting_vla_jax.figures.registry import PLOTS
from drifting_vla_jax.train import loop
from tests.train.monitoring.wandb_run import history

CURVES = {"train/loss", "train/lambda_V", "train/raw_drift_norm", "train/lr", "val/loss", "val/drift_norm"}
CURVES |= {"sim/success_rate"}
PANELS = {
    "viz/A1_drifting_field",
    "viz/A2_drift_magnitude_trend",
    "viz/A3_prediction_scatter",
    "viz/A4_per_dim_error_radar",
    "viz/A5_temperature_loss",
    "viz/B1_action_distribution",
    "viz/B2_action_error_heatmap",
    "viz/B4_trajectory_3d",
    "viz/C1_sample_transport",
    "viz/C2_mode_coverage",
    "viz/D1_sample_spread",
    "viz/D4_attention",
}
AFTER_AN_EVALUATION = {"viz/D2_success_over_training", "viz/D3_latency"}
VIDEOS = {"eval/trajectory_video", "sim/rollout_video"}


@pytest.mark.slow
def test_a_run_shows_what_was_promised(config, tmp_path, monkeypatch):
    """The real thing, small: training on the dummy simulator's demonstrations, a checkpoint evaluated beside it."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config.train.wandb = "auto"
    config.train.rollout_every, config.train.rollout_episodes = 3, 1
    config.eval.max_steps, config.eval.hold_steps, config.eval.workers = 6, 2, 1
    for name in PLOTS:
        config.figures[name] = 3
    loop.train(config, tmp_path, jax.devices()[:1])

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (found,) = [line for line in lines if "sim/success_rate" in line]
    assert found["sim/step"] == 3
    assert set(found) >= {"sim/success_rate/reach-red", "sim/success_rate/reach-blue"}
    results = json.loads((tmp_path / "eval" / "training-step3" / "results.json").read_text())
    assert results["overall"]["n"] == 2 and results["checkpoint_step"] == 3

    rows = history(tmp_path).rows
    steps = [row["_step"] for row in rows]
    assert steps == sorted(steps) and set(steps) == {1, 2, 3, 4, 5, 6}
    kinds = {key.removesuffix("/_type"): value for row in rows for key, value in row.items() if key.endswith("/_type")}
    assert set().union(*rows) >= CURVES
    assert {key for key, kind in kinds.items() if kind == "image-file"} - AFTER_AN_EVALUATION == PANELS
    assert {key for key, kind in kinds.items() if kind == "video-file"} == VIDEOS
    (third,) = [row for row in rows if row["_step"] == 3]
    assert {"train/loss", "val/loss", "viz/A1_drifting_field/path", "eval/trajectory_video/path"} <= set(third)

    for key in PANELS:
        folder = tmp_path / "figures" / key.removeprefix("viz/")
        assert sorted(path.name for path in folder.iterdir()) == ["00000003.png", "00000006.png"]
    assert {path.name for path in (tmp_path / "figures" / "B3_trajectory_video").iterdir()} == {
        "00000003.mp4",
        "00000006.mp4",
    }
