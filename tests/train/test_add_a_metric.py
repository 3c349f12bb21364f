"""The code of docs/how-to/add-a-metric.md: a metric outside the package is logged by a training."""

import json

import numpy as np
import pytest

from drifting_vla_jax.core.registry import PluginError
from drifting_vla_jax.train.validation_metrics import METRICS, validation_metrics
from tests.pages import write_code


@pytest.fixture
def page(tmp_path, monkeypatch):
    write_code("add-a-metric.md", tmp_path, monkeypatch)


@pytest.mark.slow
def test_it_is_logged(page, train, config, tmp_path):
    config.train.metrics = ("my_metric:JERK",)
    config.train.steps, config.train.warmup_steps, config.train.eval_every = 2, 1, 2
    train(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (value,) = [line["val/jerk_m"] for line in lines if "val/jerk_m" in line]
    assert np.isfinite(value) and value > 0


def test_what_is_no_metric_is_refused(page):
    assert [metric.name for metric in validation_metrics(("my_metric:JERK",))] == [m.name for m in METRICS] + ["jerk_m"]
    with pytest.raises(PluginError, match=r"metric 'my_metric:_jerk' is function; expected a drifting_vla_jax.*Metric"):
        validation_metrics(("my_metric:_jerk",))
    with pytest.raises(PluginError, match="called 'jerk_m'; expected a name of its own"):
        validation_metrics(("my_metric:JERK", "my_metric:JERK"))
    with pytest.raises(PluginError, match="there is no module 'my_metrics'"):
        validation_metrics(("my_metrics:JERK",))
