"""The training loop: batches in, steps done, metrics and checkpoints out. All I/O of training is here.

A start resumes by itself if the workdir holds a checkpoint. Ctrl-C and the signals of batch systems finish the step, save, and
return, so the process exits 0 and the next start goes on with the next batch.

With several processes all of them run this loop, each on its own rows of the same batches; process 0 alone writes
metrics, run.json and reports and shows progress, and all of them write the checkpoints together.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.mixture import Mixture, open_data
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.train import distributed, metrics, sharding
from drifting_vla_jax.train.assets import make_assets
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.data_identity import check_resumed, identify_for_all
from drifting_vla_jax.train.frozen_encoders import check_identities, identities, load_encoders, place_frozen_encoders
from drifting_vla_jax.train.monitoring import loggers, profile
from drifting_vla_jax.train.monitoring.evaluations import NOTHING, BackgroundEvaluation
from drifting_vla_jax.train.monitoring.figures import Figures
from drifting_vla_jax.train.monitoring.reports import Reports
from drifting_vla_jax.train.monitoring.run_info import RunInfo
from drifting_vla_jax.train.state import create_state
from drifting_vla_jax.train.step import compile_train_step
from drifting_vla_jax.train.validation import compile_eval_step, make_validator

log = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """The loss or gradient became NaN or infinite; the message has the step and the last good checkpoint."""


def train(config: ConfigDict, workdir: str | Path, devices: Sequence[jax.Device] | None = None) -> None:
    """Trains until ``config.train.steps`` or a signal, on the given devices (all of them by default).

    Raises:
      FileNotFoundError, ValueError: data set missing, or of other cameras, image size or tasks than the config's.
      InUseError: another training runs in the workdir.
      CheckpointError: a checkpoint cannot be read or written, or not all processes see the same ones.
      NonFiniteError: the loss or the gradient is not finite.
    """
    config_lib.validate(config)
    workdir = Path(workdir)
    with contextlib.ExitStack() as held:
        interrupted = held.enter_context(distributed.interruptible())
        dataset = open_data(config)
        mesh = sharding.make_mesh(config, devices)
        if jax.process_index() == 0:  # for all of them
            held.enter_context(owned(workdir))
        checkpoints = held.enter_context(contextlib.closing(Checkpoints(workdir, config.train.keep)))  # ends a save
        run = _Run(config, workdir, dataset, mesh, checkpoints)
        if jax.process_count() == 1 and interrupted():  # several ask together, after a step
            log.info("stopped before the first step of this start: there is nothing to save")
        else:
            run.loop(interrupted)


class _Run:
    """One run: what the loop holds on to."""

    def __init__(self, config: ConfigDict, workdir: Path, dataset: DataSet | Mixture, mesh, checkpoints: Checkpoints):
        self.config, self.workdir, self.mesh, self.checkpoints = config, workdir, mesh, checkpoints
        latest, encoders = checkpoints.latest(), load_encoders(config)
        distributed.heartbeat("what the data set holds")
        contents = identify_for_all(dataset)
        distributed.heartbeat("the state to begin with")
        if latest is None:
            actions = dataset.action_space(config)
            self.state = create_state(config, mesh, encoders)
        else:
            before = checkpoints.restore_assets(latest)
            check_identities(encoders, before.encoders)
            actions = before.spaces(config)
            check_resumed(before, latest, config, dataset, contents)
            self.state, data_state = checkpoints.restore_state(latest, config, mesh)
        self.assets = make_assets(config, dataset, actions, identities(encoders), contents)
        distributed.heartbeat("what is borrowed, and the data")
        self.borrowed = place_frozen_encoders(config, encoders, mesh, dataset.instructions)
        on_devices = sharding.batch_sharding(mesh)
        seen_by = self.assets.encoders["vision"]
        self.batches = pipeline.batches(
            dataset, "train", actions, config, train=True, sharding=on_devices, encoder_hash=seen_by
        )
        if latest is not None:
            self.batches.set_state(data_state)
            log.info("resumed at step %d", latest)
        self.train_step, eval_step = compile_train_step(config, mesh), compile_eval_step(config, mesh)
        self.held_out = make_validator(dataset, actions, config, mesh, self.borrowed, seen_by, eval_step)
        self.figures = Figures(config, workdir, self.held_out is not None)
        self.rollouts = BackgroundEvaluation(config, workdir)
        self.record = RunInfo(workdir, mesh, dataset, make_objective(config).evaluations_per_chunk)
        self.reports = Reports(config, workdir)
        if jax.process_index() == 0:
            config_lib.save(config, workdir)

    def loop(self, interrupted: Callable[[], bool]) -> None:
        """Steps until the last one or until interrupted, with everything that comes beside them."""
        first = int(self.state.step)
        with contextlib.ExitStack() as beside:
            beside.callback(self.reports.close)  # last: it tells how the run ended
            about = beside.enter_context(self.record.running(first))
            journal = loggers.make_journal(self.workdir, self.config, first, about)
            # Several processes ask together whether to stop; the one that writes would ask alone.
            alone = jax.process_count() == 1
            hurries = interrupted if alone else lambda: int(self.state.step) < self.config.train.steps
            beside.callback(journal.close, hurries)
            beside.callback(self.rollouts.stop)
            self._loop(first, journal, interrupted)

    def _loop(self, first: int, journal: loggers.MultiWriter, interrupted: Callable[[], bool]) -> None:
        t = self.config.train
        clock, window, validation = metrics.Clock(), [], None
        trace = profile.traced(self.workdir, self.config.profile, first)
        with metrics.progress_bar(t.steps, first) as bar, trace as before:
            for step in range(first + 1, t.steps + 1):
                distributed.heartbeat(f"step {step}")
                before(step)
                if len(window) > 1:
                    jax.block_until_ready(window[-2])  # one step runs, one is queued: waiting for input is real below
                start = time.perf_counter()
                batch = next(self.batches)
                clock.waited(time.perf_counter() - start)
                with jax.transfer_guard("disallow"):
                    self.state, info = self.train_step(self.state, batch, self.borrowed)
                window.append(info)
                bar.update()
                last = step == t.steps or interrupted()
                known: dict[str, float] = {}
                if step % t.log_every == 0 or last:
                    known |= self._finish_window(step, window, clock)
                    bar.set_postfix_str(_summary(known))
                    window = []
                if self.held_out and (step % t.eval_every == 0 or step == t.steps):
                    validation = self.held_out.validate(self.state.ema_params)
                    known |= validation
                self._commit(journal, step, known)
                self.reports.due(step)
                if step % t.save_every == 0 or last:
                    distributed.heartbeat(f"the checkpoint of step {step}")
                    self.checkpoints.save(self.state, self.batches.get_state(), self.assets, validation)
                    self.rollouts.saved(step, last)
                    validation = None
                if last:
                    break
        distributed.heartbeat("the last checkpoint")
        self.checkpoints.wait()
        # Several processes ask together whether to stop; while one of them waits they could not.
        found = self.rollouts.close(interrupted) if jax.process_count() == 1 else NOTHING
        if found.scalars:
            journal.commit(loggers.LogEntry(step, found.scalars, videos=found.videos))
        log.info("stopped at step %d of %d; checkpoint in %s", int(self.state.step), t.steps, self.checkpoints.folder)

    def _commit(self, journal: loggers.MultiWriter, step: int, known: dict[str, float]) -> None:
        """One record of everything that a step has brought, if it has."""
        drawing, due = None, self.figures.due(step)
        if due:
            drawing = self.figures.draw(due, self.held_out.snapshot(self.state.ema_params, step))
        found = self.rollouts.finished()
        if known or drawing or found.scalars:
            journal.commit(loggers.LogEntry(step, known | found.scalars, videos=found.videos), drawing)

    def _finish_window(self, step: int, window: list, clock: metrics.Clock) -> dict[str, float]:
        """Means of the window's metrics, on the host; stops the run if a step was not finite."""
        rows = jax.device_get(window)
        bad = [step - len(rows) + 1 + i for i, row in enumerate(rows) if not row["finite"]]
        if bad:
            self.checkpoints.wait()
            latest, folder = self.checkpoints.latest(), self.checkpoints.folder
            good = (
                "there is no checkpoint yet"
                if latest is None
                else f"the last good checkpoint is step {latest} in {folder}"
            )
            raise NonFiniteError(
                f"loss or gradient is not finite at step {bad[0]}; {good}. Lower config.train.learning_rate and go on"
            )
        names = [name for name in rows[0] if name != "finite"]
        means = {f"train/{name}": float(np.mean([row[name] for row in rows])) for name in names}
        return means | {f"train/{k}": v for k, v in clock.window(self.config.data.batch_size).items()}


def _summary(line: dict[str, float]) -> str:
    shown = {"centroid": "train/centroid_error", "spread": "train/sample_spread", "loss": "train/loss"}
    parts = [f"{label} {line[key]:.3f}" for label, key in shown.items() if key in line]
    return ", ".join([*parts, f"{line['train/samples_per_second']:.0f} samples/s"])
