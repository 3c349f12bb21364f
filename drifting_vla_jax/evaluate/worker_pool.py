"""Worker processes that are kept at work: those that die or hang are replaced, until every episode is recorded.

Which episode is whose is settled between the workers (``rollout.episode_claims``); here they are only started, watched and, at
the end, ended. A worker that dies without having recorded anything since it started is a sign of something that another
start will not mend: after a few in a row the evaluation ends and says what the worker said last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tqdm

import drifting_vla_jax
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.episode_claims import MAX_ATTEMPTS
from drifting_vla_jax.rollout.runner import alive_path

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# Deaths in a row of one worker without an episode recorded: killed from outside (more than an episode may cost), or by
# its own doing.
_KILLED, _FAILED = MAX_ATTEMPTS + 2, 2
_BAD_INPUT = 2  # the worker's exit code for it


class WorkerDiedError(RuntimeError):
    """Workers cannot go on: the last words of one, in one line; the end of its log is logged."""


@dataclass
class _Slot:
    """One of n workers, whatever process it is now.

    Attributes:
      deaths: in a row, without an episode recorded between them.
      recorded: episodes that this worker had recorded when its process started.
    """

    number: int
    log: Path
    process: subprocess.Popen | None = None
    started: float = 0.0
    deaths: int = 0
    recorded: int = 0


class WorkerPool:
    """``with Crew(...) as crew: crew.work()``; whatever happens, no process outlives the block.

    Args:
      command: starts a worker; ``options`` become its flags.
      workers: how many.
      out: the folder of the evaluation, also among ``options``.
      keys: the episodes to record.
      episode_seconds: after which a worker that is still at the same episode hangs.
    """

    def __init__(
        self,
        command: Sequence[str],
        options: dict[str, Any],
        *,
        workers: int,
        out: Path,
        keys: Sequence[episode_log.Key],
        episode_seconds: float,
    ):
        self._command, self._options, self._out, self._keys = command, options, out, set(keys)
        self._limit = episode_seconds
        self._places = [_Slot(number, out / "logs" / f"worker-{number}.log") for number in range(workers)]
        self._reader = episode_log.EpisodeReader(out)
        self._lines = dict.fromkeys(range(workers), 0)  # recorded by each worker since this crew began

    def __enter__(self) -> WorkerPool:
        (self._out / "logs").mkdir(parents=True, exist_ok=True)
        for place in self._places:
            place.log.write_bytes(b"")
        return self

    def __exit__(self, *_) -> None:
        running = [place.process for place in self._places if place.process]
        for process in running:
            process.terminate()
        until = time.monotonic() + 10
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, until - time.monotonic()))
        finally:  # a simulator may be deaf, and who waits impatient
            for process in running:
                process.kill()
                process.wait()

    def work(self) -> None:
        """Returns when every worker says that all is recorded.

        Raises:
          ValueError: a worker found its input bad; one line.
          WorkerDiedError: workers keep dying.
        """
        self._reader.update()
        for place in self._places:
            self._start(place)
        often = 0.5 if sys.stderr.isatty() else 15  # seconds between redraws; a log file wants few
        done = self._scored()
        with tqdm.tqdm(
            total=len(self._keys), initial=len(done), desc="episodes", unit="episode", mininterval=often
        ) as bar:
            working = True
            while working:
                codes = [place.process.poll() for place in self._places]  # before reading: who ended has written all
                self._read()
                done = self._scored()
                bar.set_postfix(success=f"{sum(e['success'] for e in done)}/{len(done)}", refresh=False)
                bar.update(len(done) - bar.n)
                for place, code in zip(self._places, codes):
                    self._look_after(place, code)
                working = any(code != 0 for code in codes)
                if working:
                    time.sleep(POLL_SECONDS)

    def _read(self) -> None:
        for line in self._reader.update():
            self._lines[line["worker"]] = self._lines.get(line["worker"], 0) + 1

    def _scored(self) -> list[dict]:
        found = [self._reader.episodes[key] for key in self._keys & self._reader.episodes.keys()]
        return [episode for episode in found if episode["success"] is not None]

    def _look_after(self, place: _Slot, code: int | None) -> None:
        """Replaces a worker that died, ends one that hangs."""
        if code == 0:
            return
        if code is None:
            if time.time() - self._last_sign(place) > self._limit:
                logger.warning("worker %d is at one episode for %g s: killed", place.number, self._limit)
                place.process.kill()
            return
        words = _last_words(place)
        if code == _BAD_INPUT:
            raise ValueError(words)
        place.deaths = 1 if self._lines[place.number] > place.recorded else place.deaths + 1
        if place.deaths >= (_KILLED if code < 0 else _FAILED):
            logger.error("the end of %s:\n%s", place.log, "\n".join(_lines(place)[-20:]))
            raise WorkerDiedError(
                f"rollout worker {place.number} ended with exit code {code}, saying last: {words}; see {place.log}. "
                "The same command goes on where it was"
            )
        logger.warning("worker %d ended with exit code %d (%s): started again", place.number, code, words)
        self._start(place)

    def _last_sign(self, place: _Slot) -> float:
        alive = alive_path(self._out, place.number)
        return max(place.started, alive.stat().st_mtime if alive.exists() else 0.0)

    def _start(self, place: _Slot) -> None:
        root = str(Path(drifting_vla_jax.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        arguments = [f"--{name}={value}" for name, value in {**self._options, "worker": place.number}.items()]
        place.started, place.recorded = time.time(), self._lines[place.number]
        with place.log.open("ab") as output:
            place.process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": path},
            )


def _lines(place: _Slot) -> list[str]:
    return place.log.read_text(errors="replace").strip().splitlines()


def _last_words(place: _Slot) -> str:
    lines = _lines(place)
    reasons = [line for line in lines if line.startswith("error: ")]
    return (reasons or lines or ["(it said nothing)"])[-1].removeprefix("error: ")
