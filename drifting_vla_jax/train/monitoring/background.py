"""Processes that work beside the training and that it does not wait for: evaluations, reports."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

_END_SECONDS = 10.0


def start(command: Sequence[str], leisurely: bool = False, **options: Any) -> subprocess.Popen:
    """A process of lower priority that a Ctrl-C meant for the training does not reach; ``options`` are those of Popen.

    A ``leisurely`` one is given, on Linux, only what processors have nothing else to do in.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    os.setpriority(os.PRIO_PROCESS, process.pid, 10)  # what trains goes first
    if leisurely and hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
    return process


def end(process: subprocess.Popen) -> None:
    """Ends the process: by SIGTERM or, if it does not hear that in time, by SIGKILL. The training is ending, too."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
