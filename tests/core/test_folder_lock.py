"""One owner of a folder at a time: who else comes is told whose it is; nothing that ended or was killed is in the way."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core import folder_lock
from drifting_vla_jax.core.folder_lock import InUseError, owned

OWNER = """
import os, sys, time
from drifting_vla_jax.core.folder_lock import owned
with owned(sys.argv[1]):
    if "fork" not in sys.argv or os.fork() == 0:  # a worker that outlives it
        print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """owner(*arguments) -> a process that owns tmp_path / "run"."""
    started = []

    def owner(*arguments):
        command = [sys.executable, "-c", OWNER, str(tmp_path / "run"), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == "mine\n"
        return process

    yield owner
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(folder_lock, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(folder_lock, "WATCH_SECONDS", 0.3)


@pytest.fixture
def without_locks(monkeypatch):
    """A file system without the kernel's locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_the_second_is_told_who_is_there(owner, tmp_path):
    first = owner("--config.serve.api_key=swordfish")
    with pytest.raises(InUseError) as refused, owned(tmp_path / "run"):
        pass
    said = str(refused.value)
    assert f"{tmp_path / 'run'} is in use by pid {first.pid} on host {os.uname().nodename}, since 20" in said
    assert "folder_lock" in said and "choose another folder" in said and "\n" not in said
    assert "swordfish" not in said + (tmp_path / "run" / ".lock").read_text()


@pytest.mark.parametrize("arguments", [(), ("fork",)])
def test_killed_it_is_free_at_once_even_if_a_forked_child_lives_on(owner, tmp_path, arguments):
    first = owner(*arguments)
    first.kill()
    first.wait()
    assert (tmp_path / "run" / ".lock").exists()
    began = time.monotonic()
    with owned(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()
    assert time.monotonic() - began < 1


def test_it_leaves_nothing_behind_and_threads_exclude_each_other(tmp_path):
    with owned(tmp_path / "a" / "b"):
        with pytest.raises(InUseError, match=f"pid {os.getpid()}"), owned(tmp_path / "a" / "b"):
            pass
        with owned(tmp_path / "a", "b"):  # a name in the folder above
            assert sorted(os.listdir(tmp_path / "a")) == [".b.lock", "b"]
    assert os.listdir(tmp_path / "a") == []  # what stayed empty goes


def test_one_folder_by_two_names(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with owned(tmp_path / "run"), pytest.raises(InUseError), owned(tmp_path / "link"):
        pass


def test_of_many_at_once_one_wins_each_time(tmp_path):
    inside, most, turns = [], [], []

    def work():
        for _ in range(15):
            try:
                with owned(tmp_path / "run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    turns.append(1)
            except InUseError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(turns) > 1


def left(folder, host):
    folder.mkdir()
    (folder / ".lock").write_text(json.dumps({"pid": 7, "host": host, "command": "train", "since": "yesterday"}))


def test_another_host_that_lives_is_believed(tmp_path, soon):
    left(tmp_path / "run", "elsewhere")
    over = threading.Event()

    def beat():
        while not over.wait(0.05):
            os.utime(tmp_path / "run" / ".lock")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InUseError, match="pid 7 on host elsewhere, since yesterday"), owned(tmp_path / "run"):
            pass
    finally:
        over.set()
        thread.join()


def test_another_host_that_is_gone_is_not(tmp_path, soon, caplog):
    left(tmp_path / "run", "elsewhere")
    with owned(tmp_path / "run"):
        pass
    assert "was left by pid 7 on host elsewhere" in caplog.text


def test_without_the_kernels_locks_a_living_owner_is_seen(tmp_path, soon, without_locks, caplog):
    with owned(tmp_path / "run"), pytest.raises(InUseError, match=f"pid {os.getpid()}"), owned(tmp_path / "run"):
        pass
    assert "has no locks" in caplog.text
    left(tmp_path / "killed", os.uname().nodename)
    with owned(tmp_path / "killed"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError, match=str(tmp_path / "file")), owned(place):
            pass


ANYTHING = st.recursive(st.text() | st.none() | st.integers(), st.lists)
ENTRIES = st.dictionaries(st.sampled_from(["pid", "host", "since", "command"]), ANYTHING)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=80) | (ANYTHING | ENTRIES).map(lambda value: json.dumps(value).encode()))
def test_whatever_the_file_says_the_refusal_is_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("run")
    with owned(folder):
        (folder / ".lock").write_bytes(content)
        with pytest.raises(InUseError, match="is in use by"), owned(folder):
            pass
