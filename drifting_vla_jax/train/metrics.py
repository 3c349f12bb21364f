"""Speed of a training, for the log and the progress bar. Errors are in ``validation_metrics.py``."""

from __future__ import annotations

import contextlib
import sys
import time

import jax
from tqdm import tqdm
from tqdm.utils import ObjectWrapper


class Clock:
    """Where the time of a logging window went: samples per second, and the share spent waiting for input."""

    def __init__(self):
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def waited(self, seconds: float) -> None:
        self._waited += seconds
        self._steps += 1

    def window(self, batch_size: int) -> dict[str, float]:
        """Figures since the last call; call it after ``block_until_ready``."""
        elapsed = time.perf_counter() - self._start
        out = {
            "samples_per_second": self._steps * batch_size / elapsed,
            "step_ms": 1e3 * elapsed / max(self._steps, 1),
            "input_wait_share": self._waited / elapsed,
        }
        self.__init__()
        return out


class _Console(ObjectWrapper):
    """stderr, whose end is no reason to end: Ctrl-C ends the ``tee`` behind it, too, before the last step is saved."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._wrapped.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._wrapped.flush()


def progress_bar(total: int, done: int) -> tqdm:
    """The console's one line; on a file or pipe it prints seldom, so that logs stay short."""
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        file=_Console(sys.stderr),
        desc="train",
        unit="step",
        dynamic_ncols=interactive,
        mininterval=0.5 if interactive else 15.0,
        smoothing=0.05,
        disable=jax.process_index() > 0,
    )
