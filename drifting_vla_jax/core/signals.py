"""Signals that ask a process to stop, as batch systems send them: more than once, beside each other, at any moment.

SLURM sends SIGTERM when a job is to be preempted and again before SIGKILL, srun and a shell's trap pass it on beside it;
others send SIGUSR1, SIGUSR2 or SIGXCPU, and a terminal that is closed SIGHUP. The first of them is acted on, the others are
the same wish once more. Only a second Ctrl-C ends a process that is at work on its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator

BATCH = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGHUP)
_RAISING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_seen: list[int] = []  # of the whole process, since signals were last taken


def raise_once() -> None:
    """From here to the process's end SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, the first of
    them alone: what is cleaned up then is not broken off by the next. A second Ctrl-C raises it once more."""
    _handle(_RAISING, _raise, unless_ignored=_RAISING)


@contextlib.contextmanager
def raised_once() -> Iterator[None]:
    """``raise_once`` within the block."""
    before = _handle(_RAISING, _raise, unless_ignored=_RAISING)
    try:
        yield
    finally:
        _restore(before)


def _raise(number: int, frame: object) -> None:
    first = not _seen
    _seen.append(number)
    if first or (number == signal.SIGINT and _seen.count(number) > 1):
        raise KeyboardInterrupt


@contextlib.contextmanager
def asked(say: Callable[[str], None], pass_on: int = 0) -> Iterator[Callable[[], bool]]:
    """Within the block the signals are a question, ``asked()``; a second Ctrl-C ends the process at once.

    Args:
      say: told the first signal's name, by a thread: while the main thread compiles it can do nothing.
      pass_on: a signal that is sent to this process for the first one of any other kind, and is left alone here; 0: none.
    """

    def handler(number: int, frame: object) -> None:
        first = not _seen
        _seen.append(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        if first and pass_on:
            os.kill(os.getpid(), pass_on)

    came: list[int] = []

    def hear(number: int) -> None:
        came.append(number)
        if len(came) == 1:
            say(signal.Signals(number).name)
        if came.count(signal.SIGINT) > 1:
            os._exit(128 + signal.SIGINT)

    numbers = [number for number in (signal.SIGINT, *BATCH) if number != pass_on]
    before = _handle(numbers, handler, unless_ignored=(signal.SIGHUP,))
    try:
        with heard(numbers, hear):
            yield lambda: bool(_seen)
    finally:
        _restore(before)


def _handle(numbers: Collection[int], handler: Callable[[int, object], None], unless_ignored: Collection[int]) -> dict:
    """Takes the signals, but not those that nohup or a shell's & has said to ignore; returns who had them. Python lets the
    main thread alone do that: elsewhere nothing is taken."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    _seen.clear()
    ignored = [number for number in unless_ignored if signal.getsignal(number) is signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers if number not in ignored}


def _restore(before: dict) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def heard(numbers: Collection[int], tell: Callable[[int], None]) -> Iterator[None]:
    """A thread tells of each signal as it comes, while the main thread, whose handlers they need, may be in a long call."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] in numbers:
                tell(number[0])

    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()
        listener.join()
        ours.close()
