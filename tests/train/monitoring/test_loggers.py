"""A step's record arrives whole, once and in order: in metrics.jsonl, in a real WandB run without an account, in TensorBoard."""

import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from drifting_vla_jax.train.monitoring import loggers
from drifting_vla_jax.train.monitoring.loggers import JsonlWriter, LogEntry, MultiWriter
from tests.small import small_config
from tests.train.monitoring.wandb_run import history


class Noting:
    def __init__(self):
        self.records = []

    def write(self, record):
        self.records.append(record)

    def close(self):
        self.records.append("closed")


class Drawing:
    """Done when it is told."""

    def __init__(self, images):
        self.ready, self.stopped, self._images = False, False, images

    def done(self):
        return self.ready

    def files(self):
        return self._images, {}

    def stop(self):
        self.stopped = True


def test_lines_after_the_checkpoint_go(tmp_path):
    sink = JsonlWriter(tmp_path, 0)
    for step in (1, 2, 3):
        sink.write(LogEntry(step, {"train/loss": step / 2}))
    sink.write(LogEntry(3, {}, images={"viz/A1": Path("a.png")}))  # no number, no line
    sink.close()
    JsonlWriter(tmp_path, 2).close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 1.0}]


def test_what_is_drawn_joins_the_record_of_its_step_and_later_steps_wait():
    numbers, whole, drawing = Noting(), Noting(), Drawing({"viz/A1": Path("a.png")})
    journal = MultiWriter([numbers], [whole])
    journal.commit(LogEntry(1, {"loss": 1.0}, videos={"sim/rollout_video": Path("v.mp4")}), drawing)
    journal.commit(LogEntry(2, {"loss": 0.5}))
    assert [record.step for record in numbers.records] == [1, 2] and whole.records == []
    drawing.ready = True
    journal.commit(LogEntry(3, {}))
    assert [record.step for record in whole.records] == [1, 2, 3]
    assert whole.records[0].images == {"viz/A1": Path("a.png")} and whole.records[0].scalars == {"loss": 1.0}
    assert whole.records[0].videos == {"sim/rollout_video": Path("v.mp4")} and not whole.records[1].images
    journal.close()
    assert whole.records[3:] == ["closed"] and numbers.records[3:] == ["closed"]


def test_the_end_waits_for_what_is_drawn_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(loggers, "_WAIT_SECONDS", 0.2)
    whole, drawing = Noting(), Drawing({"viz/A1": Path("a.png")})
    journal = MultiWriter([], [whole])
    journal.commit(LogEntry(1, {"loss": 1.0}), drawing)
    began = time.monotonic()
    journal.close()
    assert 0.2 <= time.monotonic() - began < 2 and drawing.stopped
    assert whole.records == [LogEntry(1, {"loss": 1.0}), "closed"]


def test_who_interrupts_does_not_wait():
    drawing = Drawing({})
    journal = MultiWriter([], [Noting()])
    journal.commit(LogEntry(1, {}), drawing)
    began = time.monotonic()
    journal.close(lambda: True)
    assert time.monotonic() - began < 1 and drawing.stopped


def test_a_sink_that_fails_is_named_once_and_dropped(caplog):
    class Broken(Noting):
        def write(self, record):
            raise OSError("no space")

    good = Noting()
    journal = MultiWriter([], [Broken(), good])
    journal.commit(LogEntry(1, {}))
    journal.commit(LogEntry(2, {}))
    assert caplog.text.count("Broken failed and is off from now on: no space") == 1
    assert [record.step for record in good.records] == [1, 2]


@pytest.fixture
def media(tmp_path):
    """A picture and a video."""
    picture, video = tmp_path / "picture.png", tmp_path / "video.mp4"
    Image.fromarray(np.full((8, 12, 3), 200, np.uint8)).save(picture)
    writer = imageio_ffmpeg.write_frames(str(video), (16, 16), macro_block_size=2, ffmpeg_log_level="error")
    writer.send(None)
    writer.send(np.zeros((16, 16, 3), np.uint8))
    writer.close()
    return {"viz/A1_drifting_field": picture}, {"eval/trajectory_video": video}


@pytest.mark.slow
def test_wandb_without_a_key_is_an_offline_run_of_one_commit_per_step_that_a_resume_continues(
    tmp_path, monkeypatch, media
):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = small_config()
    config.train.wandb, config.name = "auto", "mine"
    for step in (1, 2):
        journal = loggers.make_journal(tmp_path, config, step - 1, {"code": {"commit": "abc"}})
        journal.commit(LogEntry(step, {"train/loss": 0.5}, *media))
        journal.close()
    runs = history(tmp_path)
    assert [row["_step"] for row in runs.rows] == [1, 2] and len(runs.ids) == 1 and runs.names == {"mine"}
    for row in runs.rows:
        assert row["train/loss"] == 0.5
        assert row["viz/A1_drifting_field/_type"] == "image-file" and row["viz/A1_drifting_field/width"] == 12
        assert row["eval/trajectory_video/_type"] == "video-file"
    assert runs.config["about"] == {"code": {"commit": "abc"}} and runs.config["train"]["steps"] == 6


def events(folder: Path) -> list:
    """The events of TensorBoard's files: length, checksum, message, checksum."""
    from tensorboardX.proto import event_pb2

    out = []
    for path in folder.iterdir():
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            out.append(event_pb2.Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return out


def test_tensorboard_has_numbers_and_pictures(tmp_path, media):
    pytest.importorskip("tensorboardX")
    config = small_config()
    config.train.tensorboard = True
    journal = loggers.make_journal(tmp_path, config, 0, {"code": None})
    journal.commit(LogEntry(3, {"train/loss": 0.5}, *media))
    journal.close()
    found = {
        value.tag: (event.step, value) for event in events(tmp_path / "tensorboard") for value in event.summary.value
    }
    assert found["train/loss"][0] == 3 and found["train/loss"][1].simple_value == 0.5
    step, picture = found["viz/A1_drifting_field"]
    assert (step, picture.image.width, picture.image.height) == (3, 12, 8)
    assert "video.mp4" in str(found["eval/trajectory_video/text_summary"][1].tensor)
    assert any(tag.startswith("config") for tag in found)


def test_a_package_that_is_missing_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    config = small_config()
    config.train.tensorboard = True
    loggers.make_journal(tmp_path, config, 0, {}).close()
    assert "tensorboardX is not installed (pip install 'drifting-vla-jax[tensorboard]'); metrics go to" in caplog.text


@pytest.mark.parametrize("key", [None, "a key"])
def test_that_wandb_is_missing_is_said_to_who_has_a_key(key, tmp_path, monkeypatch, caplog):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = small_config()
    config.train.wandb = "auto"
    with caplog.at_level("INFO"):
        loggers.make_journal(tmp_path, config, 0, {}).close()
    assert ("wandb is not installed (pip install 'drifting-vla-jax[wandb]')" in caplog.text) == bool(key)


class _Wandb:
    """Stands for WandB's library: notes what a run is begun with."""

    class Error(Exception):
        pass

    def __init__(self, fails=()):
        self.begun, self._fails, self.torn_down = [], list(fails), 0

    def init(self, **options):
        self.begun.append(options)
        if self._fails:
            raise self._fails.pop()
        return SimpleNamespace(define_metric=lambda *_, **__: None, finish=lambda: None)

    def Settings(self, **options):
        return options

    def teardown(self, code):
        self.torn_down += 1


@pytest.fixture
def wandb(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    fake = _Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def begun(wandb, tmp_path) -> dict:
    loggers.WandbWriter(tmp_path, small_config(), {})
    return wandb.begun[-1]


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun", "shared"])
def test_the_users_mode_is_obeyed_even_with_a_key(mode, wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert begun(wandb, tmp_path)["mode"] == mode


@pytest.mark.parametrize(("name", "option"), [("PROJECT", "project"), ("NAME", "name"), ("DIR", "dir"),
                                              ("RUN_ID", "id"), ("RESUME", "resume")])  # fmt: skip
def test_what_the_environment_says_of_a_run_stands_above_the_configuration(name, option, wandb, tmp_path, monkeypatch):
    assert option in begun(wandb, tmp_path)
    monkeypatch.setenv(f"WANDB_{name}", "mine")
    assert option not in begun(wandb, tmp_path)  # WandB reads it itself


@pytest.mark.parametrize(("name", "value"), [("MODE", "disabled"), ("DISABLED", "true")])
def test_a_run_that_is_switched_off_is_not_begun(name, value, wandb, tmp_path, monkeypatch):
    monkeypatch.setenv(f"WANDB_{name}", value)
    config = small_config()
    config.train.wandb = "auto"
    loggers.make_journal(tmp_path, config, 0, {}).close()
    assert not wandb.begun


def test_a_server_that_refuses_connections_costs_no_time(wandb, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    assert begun(wandb, tmp_path)["mode"] == "offline" and time.monotonic() - began < 3
    assert "WandB does not answer (http://127.0.0.1:9" in caplog.text and "wandb sync" in caplog.text


def test_a_server_that_mutely_accepts_costs_seconds(wandb, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "_PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert begun(wandb, tmp_path)["mode"] == "offline"


def test_a_key_that_is_refused_leaves_the_run_offline(wandb, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setattr(loggers, "_silence", lambda: "")
    wandb._fails = [wandb.Error("401")]
    assert begun(wandb, tmp_path)["mode"] == "offline"
    assert [run["mode"] for run in wandb.begun] == ["online", "offline"] and wandb.torn_down == 1
    assert "WandB refuses (401)" in caplog.text


def test_an_end_that_hangs_is_left(wandb, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(loggers, "_WANDB_SECONDS", 0.1)
    sink = loggers.WandbWriter(tmp_path, small_config(), {})
    sink._run.finish = lambda: time.sleep(5)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < 2 and "WandB has not taken everything within 0.1 s" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\0\0", b"no id/", b"\xff", b"x" * 99])
def test_a_damaged_run_id_is_made_anew(content, wandb, tmp_path):
    (tmp_path / "wandb_run_id").write_bytes(content)
    new = begun(wandb, tmp_path)["id"]
    assert (tmp_path / "wandb_run_id.damaged").read_bytes() == content
    assert begun(wandb, tmp_path)["id"] == new == (tmp_path / "wandb_run_id").read_text()
