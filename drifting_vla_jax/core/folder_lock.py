"""One owner at a time: a folder that a process writes is refused to every other one, in a line that says who has it.

    FOLDER/.lock    {"pid", "host", "command", "since"}; gone when its owner has ended, free when its owner was killed

The kernel's lock on the file (flock) decides: it goes with its process, however that ends, and a child does not keep it.
NFS passes it on to other hosts. Some file systems know no such lock, and some only among the processes of one host (gcsfuse,
Lustre with localflock). So an owner also touches the file every ``BEAT_SECONDS``, and a file of another host, or where there
is no kernel lock, is watched for ``WATCH_SECONDS``: one that is touched meanwhile has a living owner. Times of two clocks are
never compared.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shlex
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

NAME = ".lock"
BEAT_SECONDS, WATCH_SECONDS = 4.0, 15.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_SECRET = re.compile(r"(--\S*(?:key|token|secret|password)\S*?=)\S+", re.IGNORECASE)


class InUseError(OSError):
    """Another process owns the folder; the message says which one and what to do."""


@contextlib.contextmanager
def owned(folder: str | os.PathLike, file: str | None = None) -> Iterator[None]:
    """This process is the folder's only owner within the block.

    Args:
      folder: made if missing; removed again if it was, and stayed empty.
      file: of the folder, and not yet there perhaps: only this name in it is owned.

    Raises:
      InUseError: another process, or another thread of this one, owns it.
      OSError: nothing can be written there.
    """
    folder = Path(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (NAME if file is None else f".{file.lstrip('.')}{NAME}")
    try:
        descriptor = _take(path, folder if file is None else folder / file)
        ended = threading.Event()
        with _closed_in_children(descriptor):
            beating = threading.Thread(target=_beat, args=(descriptor, ended), name="folder lock", daemon=True)
            beating.start()
            try:
                yield
            finally:
                ended.set()
                beating.join()
                if _is_at(descriptor, path):
                    path.unlink(missing_ok=True)  # before it is free: whoever has it open now looks again
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _take(path: Path, what: Path) -> int:
    """A descriptor of the file at ``path``, locked and with this process in it."""
    watched = False
    while True:
        descriptor, new = _open(path)
        try:
            kernel = _lock(descriptor, what)
            if not _is_at(descriptor, path):  # its owner removed it when it ended
                continue
            there = _read(descriptor)
            here = not there or there.get("host") == socket.gethostname()
            if not new and not watched and not (kernel and here):
                _watch(path, what, there)
                watched = True
                continue
            if not kernel:
                log.warning(
                    "the file system of %s has no locks: two starts at the same moment are not told apart", what
                )
            me = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command(), "since": _now()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(me).encode() + b"\n", 0)
            kept, descriptor = descriptor, -1
            return kept
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _open(path: Path) -> tuple[int, bool]:
    """The file, and whether it was not there before."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        with contextlib.suppress(FileNotFoundError):  # removed just now
            return os.open(path, os.O_RDWR), False


def _lock(descriptor: int, what: Path) -> bool:
    """Whether the kernel has given the lock; False where it has none to give."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        if not os.fstat(descriptor).st_size:
            time.sleep(0.2)  # it is just writing who it is
        raise _in_use(what, _read(descriptor)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _watch(path: Path, what: Path, there: dict) -> None:
    """Returns if nobody touches the file.

    Raises:
      InUseError: its owner lives.
    """
    log.warning("%s was left by %s; looking for %g s whether that still runs", what, _owner(there), WATCH_SECONDS)
    before = _touched(path)
    until = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(WATCH_SECONDS / 30)
        now = _touched(path)
        if now is None:  # ended well
            return
        if now != before:
            raise _in_use(what, there)


def _touched(path: Path) -> tuple | None:
    """Which file lies there and when it was touched, asked of the server: opening does that on NFS."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _beat(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a server that is away for a while
            os.utime(descriptor)


@contextlib.contextmanager
def _closed_in_children(descriptor: int) -> Iterator[None]:
    """A forked child would keep the lock when its parent is gone; one that is executed does not inherit it."""
    _open_here.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _open_here:
            _open_here.remove(descriptor)
            os.close(descriptor)


_open_here: set[int] = set()


def _after_fork() -> None:
    for descriptor in _open_here:
        os.close(descriptor)
    _open_here.clear()


os.register_at_fork(after_in_child=_after_fork)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:  # in a forked child it is closed
        return False


def _read(descriptor: int) -> dict:
    """What the file says; nothing if that is damaged or not yet written."""
    try:
        found = json.loads(os.pread(descriptor, 65536, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(what: Path, there: dict) -> InUseError:
    return InUseError(f"{what} is in use by {_owner(there)}; wait until it ends, stop it, or choose another folder")


def _owner(there: dict) -> str:
    if not there:
        return "another process, which has not said who it is"
    since = f", since {there.get('since')}" if there.get("since") else ""
    command = textwrap.shorten(str(there.get("command", "")), 200, placeholder=" ...")
    return f"pid {there.get('pid')} on host {there.get('host')}{since} ({command})"


def _command() -> str:
    return _SECRET.sub(r"\1...", shlex.join(sys.orig_argv))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
