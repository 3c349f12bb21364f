"""What a few steps spend their time on: JAX's own trace, for Perfetto, TensorBoard or XProf.

``config.profile`` steps are traced, from the third of a start on: the first compiles, the second fills the queues.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

log = logging.getLogger(__name__)

BEFORE = 2  # steps of a start that are not traced


@contextlib.contextmanager
def traced(workdir: Path, steps: int, first: int) -> Iterator[Callable[[int], None]]:
    """A function to be told every step before it is taken; the trace is in WORKDIR/profile when the block ends.

    Args:
      steps: how many are traced; 0: none.
      first: steps done before this start.
    """
    begin, end, running = first + BEFORE + 1, first + BEFORE + 1 + steps, False

    def stop() -> None:
        jax.profiler.stop_trace()
        log.info("the trace of %d steps is in %s", steps, Path(workdir) / "profile")

    def before(step: int) -> None:
        nonlocal running
        if running and step == end:
            stop()
            running = False
        elif steps and step == begin and jax.process_index() == 0:
            jax.profiler.start_trace(str(Path(workdir) / "profile"))
            running = True

    try:
        yield before
    finally:
        if running:
            stop()
