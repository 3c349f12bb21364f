"""Counts what XLA compiles, to show that a loop that should compile nothing does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def watched(now: Callable[[], int] = lambda: 0) -> Iterator[list[int]]:
    """A list that grows by ``now()`` with everything that this process compiles inside the block."""
    found: list[int] = []

    def listen(event: str, seconds: float, **_) -> None:
        if event == EVENT:
            found.append(now())

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
