"""Closed-loop evaluation of checkpoints while training goes on: a process of its own, on processors that do not train.

Every ``config.train.rollout_every`` steps the checkpoint just saved is evaluated in simulation by

    python -m drifting_vla_jax.evaluate.checkpoint --workdir=DIR --step=N

into DIR/eval/, as ``--mode=eval`` would; what comes out is logged with the metrics of the step at which it is known. One
evaluation runs at a time: where the next is due before the last has ended, it is left out and said.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from drifting_vla_jax.core.metadata import MetadataError, read_json
from drifting_vla_jax.train.monitoring import background

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
COMMAND = (sys.executable, "-m", "drifting_vla_jax.evaluate.checkpoint")


class Found(NamedTuple):
    """What an evaluation found: sim/success_rate and the like, and a video of it, by key; nothing where none has ended."""

    scalars: dict[str, float]
    videos: dict[str, Path]


NOTHING = Found({}, {})


class BackgroundEvaluation:
    """``saved`` after every checkpoint, ``finished`` now and then, ``close`` at the end."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self._every = config.train.rollout_every if jax.process_index() == 0 else 0
        self._workdir = workdir
        self._episodes = config.train.rollout_episodes
        self._process: subprocess.Popen | None = None
        self._step = 0
        self._due: int | None = None

    def saved(self, step: int, last: bool) -> None:
        """A checkpoint of this step is being written. The last one is left to ``--mode=eval``."""
        if self._every and step % self._every == 0 and not last:
            if self._process or self._due is not None:
                busy = self._step if self._due is None else self._due
                log.warning("step %d is not evaluated: the evaluation of step %d still runs", step, busy)
            else:
                self._due = step

    def finished(self) -> Found:
        """Starts what is due once its checkpoint is on disk whole; returns what an evaluation found, or nothing."""
        if self._due is not None and (self._workdir / "checkpoints" / str(self._due)).is_dir():
            try:
                self._start(self._due)
            except OSError as error:
                log.warning("step %d is not evaluated: %s", self._due, error)
            self._due = None
        if self._process is None or self._process.poll() is None:
            return NOTHING
        code, self._process = self._process.returncode, None
        if code:
            log.warning("the evaluation of step %d ended with exit code %d; see %s", self._step, code, self._log_path)
            return NOTHING
        try:
            return _found(self._out)
        except (MetadataError, OSError) as error:
            log.warning("what the evaluation of step %d found cannot be read: %s", self._step, error)
            return NOTHING

    def close(self, interrupted: Callable[[], bool]) -> Found:
        """Waits for the evaluation that runs, or is due, until interrupted; returns what it found."""
        if interrupted():
            return NOTHING
        self.finished()
        if self._process and self._process.poll() is None:
            log.info("waiting for the evaluation of step %d (Ctrl-C leaves it)", self._step)
            while self._process.poll() is None and not interrupted():
                time.sleep(_POLL_SECONDS)
        return self.finished()

    def stop(self) -> None:
        """Ends the evaluation that runs; the same checkpoint's evaluation goes on where it was."""
        if self._process and self._process.poll() is None:
            background.end(self._process)

    @property
    def _out(self) -> Path:
        return self._workdir / "eval" / f"training-step{self._step}"

    @property
    def _log_path(self) -> Path:
        return self._workdir / "eval" / f"training-step{self._step}.log"

    def _start(self, step: int) -> None:
        self._step = step
        self._log_path.parent.mkdir(exist_ok=True)
        more = [f"--workdir={self._workdir}", f"--step={step}", f"--episodes={self._episodes}", f"--out={self._out}"]
        with self._log_path.open("wb") as output:
            env = {**os.environ, "JAX_PLATFORMS": "cpu"}  # accelerators are busy training
            self._process = background.start([*COMMAND, *more], stdout=output, stderr=output, env=env)


def _found(folder: Path) -> Found:
    """Held success of all episodes and of every task, whose it is, and the video of the first episode filmed."""
    found = read_json(folder / "results.json")
    overall, tasks = found.get("overall"), found.get("tasks")
    try:
        rates = {"sim/success_rate": overall["success_rate"]}
        rates |= {f"sim/success_rate/{name}": task["success_rate"] for name, task in tasks.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise found.fault(f"it says no success rates ({error})") from error
    scalars = {"sim/step": found.get("checkpoint_step")} | {k: v for k, v in rates.items() if v is not None}
    films = sorted((folder / "videos").glob("*.mp4"))
    return Found(scalars, {"sim/rollout_video": films[0]} if films else {})
