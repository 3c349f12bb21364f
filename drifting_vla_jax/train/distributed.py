"""Several processes as one run: how they find each other, how they stop together, how a standstill ends.

    found     by --coordinator=host:port --num_processes=n --process_id=i, or by what JAX knows of its surroundings:
              SLURM's srun, Cloud TPU pods, GKE, MPI
    stopped   Ctrl-C or a batch system's signal (core/signals.py) at any of them: all of them save the same step and exit 0
    dead      one that dies ends the others within a sixth of the time-out (100 s at most): JAX's heartbeats see to it
    hung      where nothing has moved on for the time-out, each process ends with one line

A process by itself starts none of this: no coordinator, no heartbeats, no time-out.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from drifting_vla_jax.core import cli, network, signals

log = logging.getLogger(__name__)

_SLOWEST_HEARTBEAT = 100  # seconds, JAX's own choice


@contextlib.contextmanager
def processes(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None, timeout: int = 600
) -> Iterator[None]:
    """Makes this process one of the run's; to be entered before anything touches a device.

    A process that fails in here exits without JAX's good-bye, for which the others would have to be there.

    Args:
      coordinator, num_processes, process_id: all three, or none: then JAX looks around. ``num_processes`` of 1 says
        that this process is by itself, whatever is around it.
      timeout: seconds that the processes wait for each other, at the start and later.

    Raises:
      ValueError: the arguments do not fit together.
      RuntimeError: a device, or the connection to another process, fails.
    """
    initialise(coordinator, num_processes, process_id, timeout)
    if not jax.distributed.is_initialized():
        yield
        return
    try:
        yield
    except BaseException as error:
        atexit.register(os._exit, 1)  # the last registered is the first called
        if isinstance(error, jax.errors.JaxRuntimeError):
            raise RuntimeError(f"{_who()}: {error}; if another process has ended, its log says why") from error
        raise
    heartbeat("saying good-bye")


def initialise(coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int) -> None:
    """Connects this process with the others if there are any; arguments and errors as of ``processes``."""
    global _watch
    where = _where(coordinator, num_processes, process_id)
    if where is None:
        return
    os.environ.setdefault("grpc_proxy", "")  # else JAX would ask a proxy of the internet for the other processes
    _watch = _Watchdog(timeout, lambda: _unreached(coordinator, num_processes, process_id))
    try:
        jax.distributed.initialize(
            **where,
            initialization_timeout=2 * timeout,  # JAX would end the process with a stack trace: our line comes first
            heartbeat_timeout_seconds=min(timeout // 6, _SLOWEST_HEARTBEAT),
            shutdown_timeout_seconds=timeout,
        )
    except ValueError:
        _watch.stop()
        if where.get("coordinator_address") or "JAX_COORDINATOR_ADDRESS" in os.environ:
            raise
        return  # JAX knows of no cluster around
    heartbeat("starting")
    faulthandler.disable()  # where JAX ends the process its message says why; every thread's stack would bury it
    if jax.process_index() == 0:
        log.info("%d processes, %d devices", jax.process_count(), jax.device_count())
    else:
        logging.getLogger().setLevel(logging.WARNING)


def _where(coordinator: str | None, num_processes: int | None, process_id: int | None) -> dict | None:
    """What ``jax.distributed.initialize`` need be told; None: this process is by itself."""
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if num_processes == 1:
        return None
    if not missing:
        try:
            network.split(coordinator)
        except ValueError as error:
            raise ValueError(f"--coordinator={coordinator} is no address; {error}") from None
        if not 0 <= process_id < num_processes:
            raise ValueError(f"--process_id={process_id} is out of range; expected 0 to {num_processes - 1}")
        found = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
        return found | {"cluster_detection_method": "deactivate"}
    if len(missing) < len(given):
        raise ValueError(f"--coordinator, --num_processes and --process_id go together; missing: {', '.join(missing)}")
    tasks, nodes = os.environ.get("SLURM_NTASKS"), os.environ.get("SLURM_STEP_NUM_NODES")
    if tasks == "1":
        return None
    return {"local_device_ids": []} if tasks and tasks == nodes else {}  # one task per node: it takes all its devices


def _unreached(coordinator: str | None, num_processes: int | None, process_id: int | None) -> str:
    """What keeps this process from finding the others."""
    if coordinator is None:
        return "did not find the other processes; is every one started, and the coordinator's port open?"
    try:
        socket.create_connection(network.split(coordinator), 1).close()
    except (OSError, UnicodeError) as error:
        return f"(process {process_id} of {num_processes}) no answer from the coordinator {coordinator}: {error}"
    return (
        f"(process {process_id} of {num_processes}) the coordinator {coordinator} answers, but not all of the "
        f"{num_processes} processes came"
    )


def _who() -> str:
    return f"process {jax.process_index()} of {jax.process_count()}"


class _Watchdog:
    """A thread that ends the process with one line when nothing new is being done for too long."""

    def __init__(self, timeout: float, what: Callable[[], str]):
        self._timeout, self._stopped = timeout, threading.Event()
        self.doing(what)
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def doing(self, what: Callable[[], str]) -> None:
        self._now = time.monotonic(), what

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(min(1.0, self._timeout / 10)):
            since, what = self._now
            if time.monotonic() - since > self._timeout:
                cli.say_error(f"after {self._timeout} s: {what()}")
                os._exit(1)


_watch: _Watchdog | None = None


def heartbeat(what: str) -> None:
    """Says what comes now, such as "step 7": a sign of life, and what a time-out will name."""
    if _watch is not None:
        _watch.doing(
            lambda: (
                f"{_who()} is still at: {what}; it or another one hangs. Start all of them again: they go on from "
                "the last checkpoint"
            )
        )


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and the signals of batch systems into a question: ``interrupted()``. They may come as often as they
    like; only a second Ctrl-C ends the process at once.

    With several processes each asks once per step. A signal at one of them is told to all, and they get the answer
    "yes" at the same step, a little later.
    """
    together, steps = jax.process_count() > 1, itertools.count(1)

    def say(name: str) -> None:
        log.info("%s: finishing the step and saving", name)

    # JAX itself handles SIGTERM where there are several, and tells the others.
    with signals.asked(say, signal.SIGTERM if together else 0) as asked:
        yield (lambda: multihost_utils.reached_preemption_sync_point(next(steps))) if together else asked
