"""The code of docs/how-to/add-a-metric.md and add-a-figure.md: a training logs the one and draws the other."""

import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from drifting_vla_jax.core.registry import PluginError
from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured, folder
from drifting_vla_jax.figures.registry import PLOTS, find_plot, periods
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.report.run.images import choose_pictures
from drifting_vla_jax.report.run.reader import read_run
from drifting_vla_jax.train.validation_metrics import METRICS, validation_metrics
from tests.pages import write_code


@pytest.fixture
def page(tmp_path, monkeypatch):
    for name in ("add-a-metric.md", "add-a-figure.md"):
        write_code(name, tmp_path, monkeypatch)
    found = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, found)))  # of the process that draws


@pytest.mark.slow
def test_they_are_logged_and_drawn_and_the_policy_is_evaluated(page, train, config, tmp_path):
    config.train.metrics, config.train.figures = ("my_metric:JERK",), ("my_figure:BY_STEP",)
    config.train.steps, config.train.warmup_steps, config.train.eval_every, config.train.save_every = 2, 1, 2, 2
    config.eval.episodes, config.eval.workers, config.eval.max_steps, config.eval.videos = 1, 1, 6, 0
    config.eval.hold_steps, config.env.tasks = 1, config.env.tasks[:1]
    workdir = tmp_path / "run"
    train(workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    (value,) = [line["val/jerk_m"] for line in lines if "val/jerk_m" in line]
    assert np.isfinite(value) and value > 0
    with Image.open(workdir / "figures" / "error_by_step" / "00000002.png") as image:
        assert image.size == (720, 480)
    (shown,) = choose_pictures([read_run(workdir)])
    assert shown["title"] == "Error by step" and list(shown["runs"][0]) == [2]
    policy = restore(workdir, batch_sizes=batch_sizes(config))
    results = evaluate_configured(policy, config, folder(policy.metadata, config, workdir))
    assert results["overall"]["n"] == 1


def test_what_is_no_metric_is_refused(page):
    assert [metric.name for metric in validation_metrics(("my_metric:JERK",))] == [m.name for m in METRICS] + ["jerk_m"]
    with pytest.raises(PluginError, match=r"metric 'my_metric:_jerk' is function; expected a drifting_vla_jax.*Metric"):
        validation_metrics(("my_metric:_jerk",))
    with pytest.raises(PluginError, match="called 'jerk_m'; expected a name of its own"):
        validation_metrics(("my_metric:JERK", "my_metric:JERK"))
    with pytest.raises(PluginError, match="there is no module 'my_metrics'"):
        validation_metrics(("my_metrics:JERK",))


@pytest.mark.parametrize("name", [next(iter(PLOTS)), "snapshots", "../up"])
def test_a_figure_needs_a_folder_of_its_own(page, tmp_path, name):
    code = (tmp_path / "my_figure.py").read_text().replace('"error_by_step"', repr(name))
    module = "named_" + "".join(filter(str.isalnum, name))
    (tmp_path / f"{module}.py").write_text(code)
    with pytest.raises(PluginError, match="expected a name of its own"):
        find_plot(f"{module}:BY_STEP")


def test_what_is_no_figure_is_refused(page, tmp_path):
    off = dict.fromkeys(PLOTS, 0)
    assert periods(off, ("my_figure:BY_STEP",)) == {"my_figure:BY_STEP": 500}
    with pytest.raises(
        PluginError, match=r"figure 'my_figure:_by_step' is function; expected a drifting_vla_jax.*Plot"
    ):
        periods(off, ("my_figure:_by_step",))
    (tmp_path / "again.py").write_text("from my_figure import BY_STEP\n")
    with pytest.raises(PluginError, match="several figures called error_by_step"):
        periods(off, ("my_figure:BY_STEP", "again:BY_STEP"))
    (tmp_path / "never.py").write_text((tmp_path / "my_figure.py").read_text().replace("every=500", "every=0"))
    with pytest.raises(PluginError, match="every 0 steps; expected at least 1"):
        find_plot("never:BY_STEP")


def test_a_page_is_made_without_a_figure_that_is_not_found(tmp_path, caplog):
    (tmp_path / "config.json").write_text(json.dumps({"train": {"figures": ["nowhere:BY_STEP"]}}))
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "train/loss": 1.0}\n')
    with caplog.at_level(logging.WARNING):
        assert choose_pictures([read_run(tmp_path)]) == []
    assert "there is no module 'nowhere'" in caplog.text
