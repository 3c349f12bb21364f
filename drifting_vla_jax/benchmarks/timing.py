"""Honest times: compiled before the clock starts, waited for, and measured in turn with what they are compared with.

A contest is a few contestants doing the same work, some in this process, some in a peer's (``peer.py``). Each is warmed
up, then all run once per round, one after the other, so that whatever the machine does meanwhile hits all of them; a
ratio is the median over the rounds of one's time over the other's. Who fails is kept with the reason.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from drifting_vla_jax.benchmarks.peer import PeerError, Peers

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.05  # between runs: threads of the one before stop spinning


@dataclass(frozen=True)
class Case:
    """Something that can do the work.

    Attributes:
      name: in the table.
      run: does the work once; returns its seconds, result ready.
      compile_s: seconds to trace and compile, where that is ours to know.
      flops: of one run, products alone (``aot.flops``); None where they are not counted.
      samples: in one run: observations, images, requests.
      temp_mb: megabytes of scratch memory of one run, arguments and results aside.
      note: what a reader must know about the row.
    """

    name: str
    run: Callable[[], float]
    compile_s: float | None = None
    flops: int | None = None
    samples: int = 1
    temp_mb: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """A contestant's figures: see ``Case``; ``run_s`` are the seconds of each round, in order."""

    name: str
    run_s: tuple[float, ...]
    compile_s: float | None = None
    flops: int | None = None
    samples: int = 1
    temp_mb: float | None = None
    note: str = ""

    @property
    def median_s(self) -> float:
        return float(np.median(self.run_s))

    def speedup_over(self, other: Measured) -> float:
        """Median over the rounds of the other's time over ours: what the machine does meanwhile hits both."""
        return float(np.median(np.array(other.run_s) / np.array(self.run_s)))

    def rate_over(self, other: Measured) -> float:
        """As ``speedup_over``, for samples per second where a run has another number of them."""
        return self.speedup_over(other) * self.samples / other.samples


@dataclass(frozen=True)
class Skipped:
    """Who should stand in the table and does not, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What came of one.

    Attributes:
      title: the work, in a line.
      rows, absent: in the order given.
      load: the machine's load average over a minute, before and after.
    """

    title: str
    rows: tuple[Measured, ...]
    absent: tuple[Skipped, ...]
    load: tuple[float, float]

    def __getitem__(self, name: str) -> Measured:
        """Raises KeyError with the reason if there is no such row."""
        for row in self.rows:
            if row.name == name:
                return row
        reasons = {absent.name: absent.reason for absent in self.absent}
        raise KeyError(f"{name}: {reasons.get(name, 'not measured')}")


def contest(title: str, contestants: Sequence[Case | Skipped], rounds: int, warmup: int = 1) -> Comparison:
    """Warms every contestant up, then runs all of them ``rounds`` times in turn."""
    before, absent = os.getloadavg()[0], {c.name: c for c in contestants if isinstance(c, Skipped)}
    ready = [c for c in contestants if isinstance(c, Case)]
    runs: dict[str, list[float]] = {c.name: [] for c in ready}
    for number in range(-warmup, rounds):
        for c in ready:
            if c.name in absent:
                continue
            try:
                seconds = c.run()
            except PeerError as error:
                absent[c.name] = Skipped(c.name, str(error))
                continue
            if number >= 0:
                runs[c.name].append(seconds)
            time.sleep(SETTLE_SECONDS)
    rows = [
        Measured(c.name, tuple(runs[c.name]), c.compile_s, c.flops, c.samples, c.temp_mb, c.note)
        for c in ready
        if c.name not in absent
    ]
    if title:  # a suite takes many minutes: what is known is said at once
        log.info("%s: %s", title, ", ".join(f"{row.name} {row.median_s:.4g} s" for row in rows))
    order = [c.name for c in contestants if c.name in absent]
    return Comparison(title, tuple(rows), tuple(absent[name] for name in order), (before, os.getloadavg()[0]))


def timed(function: Callable[[], object], times: int = 1) -> Callable[[], float]:
    """A ``run`` that calls a function, waits for what it returns, and says how long one call took."""

    def run() -> float:
        start = time.perf_counter()
        for _ in range(times):
            jax.block_until_ready(function())
        return (time.perf_counter() - start) / times

    return run


def compiled(name: str, function: Callable, args: tuple, *, times: int = 1, **more) -> Case:
    """``function(*args)`` of arrays as a contestant, compiled here; ``times`` calls make one run of what takes too little."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    scratch = memory.temp_size_in_bytes / 1e6 if memory else None
    return Case(name, timed(lambda: program(*args), times), seconds, temp_mb=scratch, **more)


def of_peer(peers: Peers, peer: str, name: str, work: str, *, samples: int = 1, note: str = "", **options):
    """A peer's piece of work as a contestant, made ready now; ``Skipped`` with the reason if it cannot be."""
    try:
        process = peers.start(peer)
        about = process.prepare(name, work, **options)
    except PeerError as error:
        return Skipped(name, str(error))
    said = ", ".join(f"{key} {value}" for key, value in about.items())
    return Case(name, lambda: process.run(name), samples=samples, note="; ".join(filter(None, (note, said))))


def measure(functions: Mapping[str, Callable], args: tuple, rounds: int, times: int = 1) -> list[Measured]:
    """A contest of functions of the same arguments."""
    ready = [compiled(name, function, args, times=times) for name, function in functions.items()]
    return list(contest("", ready, rounds).rows)
