import numpy as np
import pytest

from drifting_vla_jax.figures import evaluations as rollouts
from drifting_vla_jax.figures.style import NothingToDrawError


def test_success_is_in_percent_with_the_interval_as_given():
    rows = np.array([[100, 0.0, 0.0, 0.3], [200, 0.6, 0.4, 0.8]])
    figure = rollouts.success_over_training({"all episodes": rows, "reach": rows[:1]})
    every, reach = figure.axes
    line, _, (bars,) = every.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[100, 0], [200, 60]])
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[0, 30], [40, 80]])
    assert [axes.get_title(loc="left") for axes in (every, reach)] == ["all episodes", "reach"]


def test_of_very_many_tasks_the_worst_are_shown(monkeypatch):
    monkeypatch.setattr(rollouts, "_PANELS", 3)
    success = {f"task{i}": np.array([[1, i / 50, 0, 1]]) for i in range(50)}
    figure = rollouts.success_over_training(success)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == [f"task{i}" for i in range(3)] and "3 lowest of 50" in figure.get_suptitle()


def test_percentiles_are_marked():
    axes = rollouts.latency(np.arange(101.0), [5.0] * 9).axes[0]
    marks = sorted(line.get_xdata()[0] for line in axes.lines)
    assert marks == [5, 5, 50, 95]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "in the network: p50 5.0, p95 5.0 ms",
        "round trip: p50 50.0, p95 95.0 ms",
    ]
    for histogram in axes.patches:
        assert len(histogram.get_xy()) > 40


def test_without_evaluations_there_is_nothing():
    for draw in (lambda: rollouts.success_over_training({}), lambda: rollouts.latency([], [])):
        with pytest.raises(NothingToDrawError, match="no evaluation"):
            draw()
