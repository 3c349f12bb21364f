"""Figures are drawn beside the training: when they are due, by another process, and their files join the step's record."""

import sys
import time
from types import SimpleNamespace

import pytest

from drifting_vla_jax.config import ranges as config_ranges
from drifting_vla_jax.figures.registry import PLOTS
from drifting_vla_jax.figures.style import THEMES
from drifting_vla_jax.train.monitoring import figures
from tests.small import small_config

STAND_IN = """
import pathlib, sys, time
flags = dict(argument[2:].split("=") for argument in sys.argv[1:])
time.sleep({seconds})
for name in flags["figures"].split(",")[:{drawn}]:
    folder = pathlib.Path(flags["workdir"], "figures", name)
    folder.mkdir(parents=True)
    suffix = "mp4" if name.startswith("B3") else "png"
    (folder / f"{{int(flags['step']):08d}}.{{suffix}}").write_text(flags["theme"])
print("ERROR: B2 has no data", file=sys.stderr)
raise SystemExit({code})
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make(periods by name, how the stand-in for the drawing process behaves) -> Figures."""

    def make(periods, seconds=0.0, code=0, drawn=99):
        stand_in = STAND_IN.format(seconds=seconds, code=code, drawn=drawn)
        monkeypatch.setattr(figures, "COMMAND", (sys.executable, "-S", "-c", stand_in))
        config = small_config()
        config.figures.theme = "paper"
        for name, every in periods.items():
            config.figures[name] = every
        return figures.Figures(config, tmp_path)

    return make


def snapshot(step):
    return SimpleNamespace(step=step, save=lambda path: None)


def wait(drawing):
    deadline = time.monotonic() + 20
    while not drawing.done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return drawing.files()


def test_every_figure_has_its_period_and_all_that_are_on_are_drawn_at_the_end(make):
    made = make({"A1_drifting_field": 2, "C2_mode_coverage": 5})
    assert [made.due(step) for step in range(1, 7)] == [
        (),
        ("A1_drifting_field",),
        (),
        ("A1_drifting_field",),
        ("C2_mode_coverage",),
        ("A1_drifting_field", "C2_mode_coverage"),
    ]


def test_what_was_drawn_has_its_key(make, tmp_path):
    made = make({"A1_drifting_field": 2, "B3_trajectory_video": 2})
    images, videos = wait(made.draw(made.due(2), snapshot(2)))
    folder = tmp_path / "figures"
    assert images == {"viz/A1_drifting_field": folder / "A1_drifting_field" / "00000002.png"}
    assert videos == {"eval/trajectory_video": folder / "B3_trajectory_video" / "00000002.mp4"}
    assert images["viz/A1_drifting_field"].read_text() == "paper"


def test_one_that_fails_is_said_and_the_others_are_there(make, caplog):
    made = make({"A1_drifting_field": 2, "B2_action_error_heatmap": 2}, code=1, drawn=1)
    images, _ = wait(made.draw(made.due(2), snapshot(2)))
    assert list(images) == ["viz/A1_drifting_field"]
    assert caplog.messages == ["not all figures of step 2 were drawn: ERROR: B2 has no data"]


def test_one_drawing_at_a_time(make, caplog):
    made = make({"A1_drifting_field": 2}, seconds=60)
    running = made.draw(made.due(2), snapshot(2))
    assert made.draw(made.due(4), snapshot(4)) is None
    assert caplog.messages == ["the figures of step 4 are left out: those of the last are still drawn"]
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 5 and running.done()


def test_those_of_the_last_step_wait_for_the_ones_before(make):
    made = make({"A1_drifting_field": 2}, seconds=1)
    assert made.draw(made.due(4), snapshot(4)) and made.draw(made.due(6), snapshot(6))


def test_the_configuration_names_what_there_is():
    names = set(small_config().figures)
    assert names == set(PLOTS) | {"theme"} and set(config_ranges.THEMES) == set(THEMES)


def test_a_figure_of_an_earlier_training_is_not_taken_for_this_ones(make, tmp_path):
    old = tmp_path / "figures" / "A1_drifting_field" / "00000002.png"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    drawing = make({"A1_drifting_field": 2}, drawn=0, code=1).draw(("A1_drifting_field",), snapshot(2))
    assert wait(drawing) == ({}, {})
