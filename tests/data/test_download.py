"""The download command against a hub on this machine: whole, once, resumed, and honest about what is missing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.data import download
from drifting_vla_jax.data.download import Job, Part
from drifting_vla_jax.data.sources.rlbench.episodes import read_demo
from drifting_vla_jax.envs.rlbench.demos import folders
from tests.data.fake_hub import Hub
from tests.peract_fixture import TASKS, make_zip

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(demos, tmp_path):
    """A hub with both tasks in train and one of them in val."""
    root = tmp_path / "hub"
    for split, task in (("train", TASKS[0]), ("train", TASKS[1]), ("val", TASKS[1])):
        make_zip(demos / "train" / task, root / "data" / split / f"{task}.zip")
    hub = Hub(root, "somebody/demos")
    with hub.serve() as hub.address:
        yield hub


def command(hub, tmp_path, *arguments, **environment) -> dict:
    """How to start the command in a process of its own: the hub's library reads the environment once."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.address}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    line = [sys.executable, "-m", "drifting_vla_jax.data.download", "--repository=somebody/demos", *arguments]
    return {"args": line, "cwd": ROOT, "env": env, "text": True}


def run(hub, tmp_path, *arguments, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(**command(hub, tmp_path, *arguments, **environment), capture_output=True, timeout=120)


@pytest.mark.slow
def test_parts_come_once_and_are_what_the_reader_reads(hub, demos, tmp_path):
    out = tmp_path / "out"
    big = {"close_jar/notes": np.random.default_rng(0).bytes(24 * 2**20)}  # the library writes pieces of 10 MB
    make_zip(demos / "train/close_jar", hub.root / "data/train/close_jar.zip", big)
    hub.cut.add("data/train/close_jar.zip")  # the line breaks half way
    arguments = (f"--tasks={','.join(TASKS)}", "--splits=train", f"--out={out}")
    done = run(hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "2 parts are in" in done.stdout and "--source=peract" in done.stdout
    assert "train/open_drawer: 3 episodes; the archive has 3, not 100" in done.stdout + done.stderr
    gets = [r.split(" ", 2)[-1] for r in hub.requests if r.startswith("GET") and "close_jar" in r]
    assert len(gets) == 2 and gets[1].startswith("bytes=10485760-"), "only what was missing is asked for again"
    for task in TASKS:
        assert [len(read_demo(path)) for path in folders(out / "train", task).values()] == [12, 12, 12]
        assert json.loads((out / "train" / task / ".download.json").read_text())["unpacked"] == 3
    assert not list(out.rglob("*.zip")) and not list(out.rglob("*.partial"))
    asked = len(hub.requests)
    again = run(hub, tmp_path, *arguments, HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and "2 of 2 parts are done already" in again.stderr and len(hub.requests) == asked


@pytest.mark.slow
def test_what_is_missing_is_named_and_the_rest_is_finished(hub, tmp_path):
    """val has one task of two; train/close_jar is damaged on the hub, and whole again at the second start."""
    archive, out = hub.root / "data/train/close_jar.zip", tmp_path / "out"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:5000] + b"????" + whole[5004:])
    arguments = (f"--tasks={','.join(TASKS)}", f"--out={out}", "--episodes=1", "--keep_archives")
    done = run(hub, tmp_path, *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: 2 of 4 parts are missing: ")
    assert "train/close_jar (data/train/close_jar.zip: it is damaged: " in error
    assert "val/close_jar (somebody/demos has no data/val/close_jar.zip)" in error
    finished = sorted(str(p.parent.relative_to(out)) for p in out.rglob(".download.json"))
    assert finished == ["train/open_drawer", "val/open_drawer"]
    assert len(folders(out / "val", "open_drawer")) == 1
    archive.write_bytes(whole)
    done = run(hub, tmp_path, *arguments, "--splits=train")
    assert done.returncode == 0, done.stderr
    offline = run(hub, tmp_path, *arguments, "--splits=train", "--episodes=2", HF_HUB_OFFLINE="1")  # from what was kept
    assert offline.returncode == 0, offline.stderr
    assert len(folders(out / "train", "close_jar")) == 2


@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_the_next_start_goes_on(hub, tmp_path):
    """The hub sends half of an archive and then nothing; the other part is there, and stays."""
    hub.stuck.add("data/train/close_jar.zip")
    arguments = (f"--tasks={','.join(TASKS)}", "--splits=train", f"--out={tmp_path / 'out'}")
    process = subprocess.Popen(**command(hub, tmp_path, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/train/open_drawer/.download.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "error: interrupted" in errors and "Traceback" not in errors
    hub.stuck.clear()
    done = run(hub, tmp_path, *arguments)
    assert done.returncode == 0 and "1 of 2 parts are done already" in done.stderr, done.stderr
    assert len(folders(tmp_path / "out/train", "close_jar")) == 3


@pytest.mark.slow
def test_the_list_and_bad_requests(hub, tmp_path):
    done = run(hub, tmp_path, "--list")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["GB", "train", "val"] and lines[1][0] == "close_jar" and lines[1][2] == "-"
    assert [line[0] for line in lines[1:]] == ["close_jar", "open_drawer", "all"]
    wrong = run(hub, tmp_path, "--tasks=open_drawr", "--splits=train", f"--out={tmp_path}")
    assert wrong.returncode == 1 and "no task 'open_drawr'; did you mean 'open_drawer'?" in wrong.stderr
    away = {"HF_HUB_OFFLINE": "1"}
    nothing = run(hub, tmp_path, "--tasks=close_jar", "--splits=train", f"--out={tmp_path / 'x'}", **away)
    assert nothing.returncode == 1 and "error: 1 of 1 parts are missing: train/close_jar (" in nothing.stderr
    assert "Traceback" not in nothing.stderr + wrong.stderr


def job(tmp_path, **changes) -> Job:
    return Job(**{"repository": "a/b", "out": tmp_path, "episodes": 0, "keep_archives": False, **changes})


def test_room_is_counted_before_anything_is_fetched(tmp_path, monkeypatch):
    """Two archives of 1 GB at once: 2.3 GB unpacked, and 2 GB of archives (3 GB if three are kept)."""
    parts = [Part("train", task) for task in "abc"]
    found = dict.fromkeys(parts, 10**9)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("usage", (), {"free": 5.4 * 10**9}))
    with pytest.raises(OSError, match=r"5\.45 GB are needed in .*5\.40 GB are free; ask for fewer --tasks"):
        download.check_room(parts, found, job(tmp_path), workers=2)
    download.check_room(parts, found, job(tmp_path), workers=1)
    download.check_room(parts, found, job(tmp_path, episodes=10), workers=3)  # 3 + a tenth of 3.45
    with pytest.raises(OSError, match=r"6\.45 GB are needed"):
        download.check_room(parts, found, job(tmp_path, keep_archives=True), workers=1)


def test_a_part_is_done_when_it_holds_as_many_episodes_as_are_asked_for(tmp_path):
    part = Part("train", "t")
    assert not download.is_done(part, job(tmp_path))
    part.folder(tmp_path).mkdir(parents=True)
    (part.folder(tmp_path) / download.MARKER).write_text('{"unpacked": 10, "held": 100}')
    wanted = {0: False, 5: True, 10: True, 11: False}
    assert {n: download.is_done(part, job(tmp_path, episodes=n)) for n in wanted} == wanted
    (part.folder(tmp_path) / download.MARKER).write_text('{"unpacked": 25, "held": 25}')
    assert download.is_done(part, job(tmp_path, episodes=100)) and download.is_done(part, job(tmp_path))


def test_splits_that_nobody_knows(tmp_path):
    with pytest.raises(ValueError, match="--splits=train,valid: expected some of train, val, test"):
        download.download(["open_drawer"], ["train", "valid"], job(tmp_path), 1)


def test_a_fault_in_one_part_does_not_leave_the_others_waiting(tmp_path, monkeypatch, capsys):
    def fetch(part, _):
        if part.task == "a":
            raise KeyError("a bug")
        return f"{part}: fine"

    monkeypatch.setattr(download, "fetch", fetch)
    monkeypatch.setattr(download.threading, "excepthook", lambda _: None)
    failed = download.fetch_all([Part("train", task) for task in "abc"], job(tmp_path), workers=3)
    assert failed == {Part("train", "a"): "stopped by a fault of this program, see above"}


def test_a_part_of_another_repository_or_with_episodes_gone_is_not_done(tmp_path):
    part = Part("train", "open_drawer")
    episodes = part.folder(tmp_path) / "all_variations/episodes"
    for name in ("episode0", "episode1"):
        (episodes / name).mkdir(parents=True)
    about = {"unpacked": 2, "held": 2, "repository": "somebody/demos", "episodes": ["episode0", "episode1"]}
    (part.folder(tmp_path) / download.MARKER).write_text(json.dumps(about))
    here = Job("somebody/demos", tmp_path, 0, False)
    assert download.is_done(part, here)
    with pytest.raises(
        download.DownloadError, match="was fetched from somebody/demos, not from else/demos; choose another"
    ):
        download.is_done(part, Job("else/demos", tmp_path, 0, False))
    (episodes / "episode1").rmdir()  # damaged, and deleted to have it fetched again
    assert not download.is_done(part, here)
