"""The figures of a run, drawn while it goes on: the training saves what they show, a process of lower priority draws.

Every figure has its own period, ``config.figures.NAME`` or, from outside, that of its ``Plot``; where one is due,

    DIR/figures/snapshots/00001000.npz    is written here: held-out samples, their drift, one episode (figures/inputs.py)
    DIR/figures/NAME/00001000.png         are drawn by ``python -m drifting_vla_jax.report.figures``

One drawing runs at a time: where the next is due before the last has ended, it is left out and said. Those of the last step
wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from drifting_vla_jax.core.action_layout import END_EFFECTOR, layout_of
from drifting_vla_jax.core.files import set_aside
from drifting_vla_jax.figures.inputs import FigureInputs
from drifting_vla_jax.figures.registry import find_plot, periods
from drifting_vla_jax.train.monitoring import background

log = logging.getLogger(__name__)

_WAIT_SECONDS = 300.0
COMMAND = (sys.executable, "-m", "drifting_vla_jax.report.figures")


class Figures:
    """``due`` after every step, and ``draw`` what is."""

    def __init__(self, config: ConfigDict, workdir: Path, held_out: bool = True):
        """``held_out``: whether there are episodes to show."""
        found = periods(config.figures, config.train.figures)
        self._periods = found if held_out else {}
        if self._periods and layout_of(config) != END_EFFECTOR:
            log.warning("figures show one end effector; of actions of layout %s none are drawn", layout_of(config))
            self._periods = {}
        self._last, self._theme, self._workdir = config.train.steps, config.figures.theme, workdir
        self._drawing: FigureDrawing | None = None

    def due(self, step: int) -> tuple[str, ...]:
        """Names of the figures of this step, the same in every process; after the last step all that are on."""
        return tuple(name for name, every in self._periods.items() if step % every == 0 or step == self._last)

    def draw(self, names: Sequence[str], snapshot: FigureInputs) -> FigureDrawing | None:
        """Starts the drawing, in the first process; None where one still runs."""
        if jax.process_index() > 0:
            return None
        if self._drawing and snapshot.step == self._last:
            self._drawing.wait()
        if self._drawing and not self._drawing.done():
            log.warning("the figures of step %d are left out: those of the last are still drawn", snapshot.step)
            return None
        folder = self._workdir / "figures"
        try:
            if folder.exists() and not folder.is_dir():
                set_aside(folder, "no folder")
            snapshot.save(folder / "snapshots" / f"{snapshot.step:08d}.npz")
            self._drawing = FigureDrawing(folder, names, snapshot.step, self._theme)
        except OSError as error:
            log.warning("the figures of step %d are not drawn: %s", snapshot.step, error)
            return None
        return self._drawing


class FigureDrawing:
    """One step's figures, drawn by another process (see ``loggers.Drawing``)."""

    def __init__(self, folder: Path, names: Sequence[str], step: int, theme: str):
        self._folder, self._step = folder, step
        self._plots = [find_plot(name) for name in names]
        for plot in self._plots:  # an earlier training's: what cannot be drawn now is missing, not old
            for suffix in ("png", "mp4"):
                (folder / plot.name / f"{step:08d}.{suffix}").unlink(missing_ok=True)
        what = [f"--workdir={folder.parent}", f"--step={step}", f"--figures={','.join(names)}", f"--theme={theme}"]
        # Small matrices: more threads only wait, beside those that train.
        env = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
        output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        self._process = background.start([*COMMAND, *what], leisurely=True, env=env, **output)

    def done(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> None:
        """Until it is done, five minutes at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_WAIT_SECONDS)

    def files(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and videos by their keys; a figure that could not be drawn is said and missing."""
        said = self._process.communicate()[1]
        if self._process.returncode:
            log.warning("not all figures of step %d were drawn: %s", self._step, said.strip().rpartition("\n")[2])
        images, videos = {}, {}
        for plot in self._plots:
            for kind, suffix in ((images, "png"), (videos, "mp4")):
                path = self._folder / plot.name / f"{self._step:08d}.{suffix}"
                if path.is_file():
                    kind[plot.key] = path
        return images, videos

    def stop(self) -> None:
        background.end(self._process)
        self._process.communicate()
