"""The command that draws a run's figures."""

import re
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from drifting_vla_jax.figures import drift_field
from drifting_vla_jax.figures import registry as gallery
from drifting_vla_jax.report.figures import draw_figures, evaluated, frame_rate
from drifting_vla_jax.report.run.reader import read_run
from tests import commands
from tests.figures.fake import fake_snapshot

ROOT = Path(__file__).parents[2]
FEW = ("A5_temperature_loss", "A2_drift_magnitude_trend", "D3_latency")


def add_snapshot(workdir, step):
    fake_snapshot(step=step, b=4, g=3, h=4, n=3, side=8).save(workdir / "figures" / "snapshots" / f"{step:08d}.npz")


@pytest.fixture
def run(make_run, evaluate, ten):
    """Snapshots at steps 2 and 4, and an evaluation of each."""
    workdir = make_run()
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "train/lambda_V": 0.5}\n{"step": 4, "train/lambda_V": 0.25}\n')
    evaluate(workdir, ten, step=4)
    evaluate(workdir, [{**episode, "success": False} for episode in ten], step=2)
    add_snapshot(workdir, 2)
    add_snapshot(workdir, 4)
    return workdir


def command(*arguments):
    return commands.run("drifting_vla_jax.report.figures", *arguments)


@pytest.mark.slow
def test_every_figure_of_a_run_is_drawn_and_said(run):
    done = command(f"--workdir={run}")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) == len(gallery.PLOTS) == 15
    for name, plot in gallery.PLOTS.items():
        path = run / "figures" / name / f"00000004.{'mp4' if plot.film else 'png'}"
        assert str(path) in done.stdout
        if plot.film:
            reader = imageio_ffmpeg.read_frames(str(path))
            facts = next(reader)
            assert facts["size"] == plot.size and len(list(reader)) == 3 and facts["fps"] == 5.0
        else:
            assert Image.open(path).size == plot.size
        assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_the_gallery_s_names_are_the_keys():
    for name, plot in gallery.PLOTS.items():
        assert plot.name == name
        assert plot.key == ("eval/trajectory_video" if plot.film else f"viz/{name}")
        assert re.fullmatch(r"[^.]+\.", plot.note) and plot.title


@pytest.mark.parametrize("step, drawn", [("", [4]), ("2", [2]), ("all", [2, 4])])
def test_which_steps_are_drawn(run, step, drawn):
    assert draw_figures(run, step, FEW[:1], scale=2, out=run / "there", say=lambda _: None) == []
    for name in FEW[:1]:
        files = sorted((run / "there" / name).iterdir())
        assert [path.name for path in files] == [f"{number:08d}.png" for number in drawn]
        assert Image.open(files[0]).size == tuple(2 * side for side in gallery.PLOTS[name].size)


def test_a_figure_shows_nothing_of_later_than_its_step(run):
    found = evaluated(read_run(run), 2)
    np.testing.assert_allclose(found.success["all episodes"][:, :2], [[2, 0]])
    found = evaluated(read_run(run), 4)
    np.testing.assert_allclose(found.success["all episodes"][:, :2], [[2, 0.0], [4, 0.8]])
    assert list(found.success) == ["all episodes", "reach", "push"]
    assert len(found.round_trip_ms) == len(found.infer_ms) == 40


def test_what_a_run_lacks_is_left_out_in_one_line(make_run):
    said = []
    assert draw_figures(make_run(), say=said.append) == []
    assert len(said) == 15 and all("left out: " in line for line in said)
    assert "no snapshots" in said[0] and "no drift has been logged" in said[1] and "no evaluation" in said[13]


def test_an_older_run_s_squares_are_drawn_as_roots(run):
    metrics = {"train/drift_sq/0.2": {1: 4.0}, "train/drift_sq/1": {1: 9.0}, "train/loss": {1: 7.0}}
    assert gallery.drift_series(metrics) == {"τ = 0.2": {1: 2.0}, "τ = 1": {1: 3.0}}
    assert gallery.drift_series({**metrics, "val/lambda_V": {1: 5.0}}) == {"val/lambda_V": {1: 5.0}}


def test_one_that_fails_stops_no_other(run, monkeypatch):
    broken = gallery.PLOTS[FEW[0]]
    monkeypatch.setitem(gallery.PLOTS, FEW[0], gallery.Plot(**{**vars(broken), "draw": lambda *_: 1 / 0}))
    said = []
    assert draw_figures(run, "", FEW, say=said.append) == [FEW[0]]
    assert "FAILED: ZeroDivisionError" in said[0]
    assert not (run / "figures" / FEW[0]).exists() and (run / "figures" / FEW[2] / "00000004.png").exists()


def test_a_damaged_snapshot_is_said_by_each_figure_of_it_and_in_the_exit_code(run):
    (run / "figures" / "snapshots" / "00000004.npz").write_bytes(b"half")
    done = command(f"--workdir={run}", f"--figures={FEW[0]},{FEW[1]}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "00000004.npz is damaged" in done.stdout and done.stderr == f"error: 1 of the figures failed: {FEW[0]}\n"
    assert (run / "figures" / FEW[1] / "00000004.png").exists()


def test_a_file_that_is_no_snapshot_is_passed_over(run):
    (run / "figures" / "snapshots" / "notes.npz").write_bytes(b"")
    assert draw_figures(run, "all", FEW[:1], say=lambda _: None) == []
    assert len(list((run / "figures" / FEW[0]).iterdir())) == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"step": "3"}, "there are: 2, 4"),
        ({"step": "last"}, "--step=last"),
        ({"names": ["A1"]}, "unknown figure 'A1'"),
        ({"theme": "pink"}, "no theme is called 'pink'"),
    ],
)
def test_bad_input_is_one_clear_error(run, changes, message):
    with pytest.raises(ValueError, match=message):
        draw_figures(run, **changes)


def test_a_film_plays_in_real_time():
    assert frame_rate(np.array([0, 4, 8, 12]), 20.0) == 5.0
    assert frame_rate(np.array([0]), 20.0) == 20.0
    assert frame_rate(np.arange(9), 500.0) == 30.0


def test_a_film_that_fails_leaves_no_file(run, monkeypatch):
    def torn(*_, **__):
        yield np.zeros((720, 1280, 3), np.uint8)
        raise OSError("gone")

    monkeypatch.setattr(gallery.film, "trajectory_frames", torn)
    name = "B3_trajectory_video"
    assert draw_figures(run, "", [name], say=lambda _: None) == [name]
    assert not list((run / "figures" / name).iterdir())


def test_help_does_not_wait_for_matplotlib():
    code = "import sys, drifting_vla_jax.report.figures\nprint('matplotlib' in sys.modules, 'scipy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_sizes_are_those_that_the_figures_are_drawn_in():
    assert gallery.PLOTS["A1_drifting_field"].size == drift_field.plot_drift_field.size == (1200, 640)
