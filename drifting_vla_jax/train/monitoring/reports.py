"""DIR/report/index.html, made again while training goes on: a process of its own, of lower priority, that reads files.

    python -m drifting_vla_jax.report --workdir=DIR

every ``config.train.report_every`` steps and once when the training ends, however it ends. One runs at a time; where the next
is due before the last has ended, it is left out. A report that fails is said and never stops training.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from drifting_vla_jax.train.monitoring import background

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "drifting_vla_jax.report")


class Reports:
    """``due`` after every step, ``close`` at the end."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self._every = config.train.report_every if jax.process_index() == 0 else 0
        self._workdir = workdir
        self._process: subprocess.Popen | None = None

    def due(self, step: int) -> None:
        """Starts a report where one is due; does not wait for it."""
        if self._every and step % self._every == 0 and not self._runs() and self._logged():
            self._start()

    def close(self) -> None:
        """The last report, which knows how the training ended; waits for it, a second."""
        if self._every and self._logged():
            self._finish()
            self._start()
            self._finish()

    def _logged(self) -> bool:
        path = self._workdir / "metrics.jsonl"
        return path.exists() and path.stat().st_size > 0

    def _runs(self) -> bool:
        if self._process and self._process.poll() is None:
            return True
        self._finish()
        return False

    def _start(self) -> None:
        command = [*COMMAND, f"--workdir={self._workdir}"]
        self._process = background.start(
            command, leisurely=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def _finish(self) -> None:
        if self._process is None:
            return
        said = self._process.communicate()[1]
        if self._process.returncode:
            log.warning("the report was not made: %s", said.strip().rpartition("\n")[2])
        self._process = None
