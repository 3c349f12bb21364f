"""Which episode is whose: processes that share a folder hand themselves episodes, each to one of them at a time.

    OUT/queue    a byte per episode of the list: how many processes ended while they ran it. The kernel's record lock on
                 the byte is held by the process that runs the episode, and is gone when that process is, however it ends.

No process has to be told who else is there: any number may start, die and start again. What a dead one left is free at
once; what keeps killing its process is given up after ``MAX_ATTEMPTS`` times.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_ATTEMPTS = 3  # processes that an episode may take with it


@dataclass(frozen=True)
class Claim:
    """An episode that is this process's until it lets go.

    Attributes:
      deaths: processes that ended while they ran it.
    """

    deaths: int

    @property
    def hopeless(self) -> bool:
        return self.deaths >= MAX_ATTEMPTS


class EpisodeQueue:
    """The queue of one folder. One object per process: POSIX locks belong to the process.

    Args:
      path: the file; made if missing.
      size: episodes in the list, the same for every process.
    """

    def __init__(self, path: Path, size: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._size = size

    @contextlib.contextmanager
    def claim(self, index: int) -> Iterator[Claim | None]:
        """The episode at a place of the list, or None while another process has it.

        Leaving the block well says that the episode is recorded; leaving it by an error that it is not, and that this is
        not its fault; never leaving it, because the process is no more, counts as a death.
        """
        if not 0 <= index < self._size:
            raise IndexError(f"episode {index} of {self._size}")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            yield None
            return
        try:
            deaths = (os.pread(self._file, 1, index) or b"\0")[0]
            self._write(index, min(deaths + 1, 255))
            after = deaths
            try:
                yield Claim(deaths)
                after = 0
            finally:
                self._write(index, after)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, index)

    def _write(self, index: int, deaths: int) -> None:
        os.pwrite(self._file, bytes([deaths]), index)

    def close(self) -> None:
        os.close(self._file)
