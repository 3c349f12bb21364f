"""The training loop: batches in, steps done, metrics and checkpoints out. All I/O of training is here.

A start resumes by itself if the workdir holds a checkpoint. Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and
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
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from drifting_vla_jax import config as config_lib
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.actions import ActionSpace
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.models.pretrained import Encoder
from drifting_vla_jax.train import distributed, metrics, profile, sharding
from drifting_vla_jax.train.borrowed import borrow, check_identities, identities, load_encoders
from drifting_vla_jax.train.checkpoint import Assets, Checkpoints
from drifting_vla_jax.train.record import Record
from drifting_vla_jax.train.reports import Reports
from drifting_vla_jax.train.rollouts import Rollouts
from drifting_vla_jax.train.state import create_state
from drifting_vla_jax.train.step import compile_eval_step, compile_train_step
from drifting_vla_jax.types import Batch

log = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """The loss or gradient became NaN or infinite; the message has the step and the last good checkpoint."""


def train(config: ConfigDict, workdir: str | Path, devices: Sequence[jax.Device] | None = None) -> None:
    """Trains until ``config.train.steps`` or a signal, on the given devices (all of them by default).

    Raises:
      FileNotFoundError, ValueError: data set missing, or of other cameras, image size or tasks than the config's.
      CheckpointError: a checkpoint cannot be read or written, or not all processes see the same ones.
      NonFiniteError: the loss or the gradient is not finite.
    """
    config_lib.validate(config)
    workdir = Path(workdir)
    dataset = DataSet(config.data.path, config.env.cameras)
    dataset.check(config)
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
    mesh = sharding.make_mesh(config, devices)
    with contextlib.closing(Checkpoints(workdir, config.train.keep)) as checkpoints:  # whatever happens, a save ends
        run = _Run(config, workdir, dataset, mesh, checkpoints)
        with distributed.interruptible() as interrupted:
            run.loop(interrupted)


class _Run:
    """One run: what the loop holds on to."""

    def __init__(self, config: ConfigDict, workdir: Path, dataset: DataSet, mesh, checkpoints: Checkpoints):
        self.config, self.workdir, self.mesh, self.checkpoints = config, workdir, mesh, checkpoints
        latest, encoders = checkpoints.latest(), load_encoders(config)
        distributed.doing("the state to begin with")
        if latest is None:
            self.assets = _assets(config, dataset, dataset.action_space(config), encoders)
            self.state = create_state(config, mesh, encoders)
        else:
            self.assets = checkpoints.restore_assets(latest)
            check_identities(encoders, self.assets.encoders)
            for change in config_lib.differences(self.assets.config, config):
                log.warning("resuming step %d with another configuration: %s", latest, change)
            self.state, data_state = checkpoints.restore_state(latest, config, mesh)
            self.assets = _assets(config, dataset, self.assets.actions, encoders)
        distributed.doing("what is borrowed, and the data")
        self.borrowed = borrow(config, encoders, mesh, dataset.instructions)
        on_devices = sharding.batch_sharding(mesh)
        seen_by = self.assets.encoders["vision"]
        self.batches = pipeline.batches(
            dataset, "train", self.assets.actions, config, train=True, sharding=on_devices, encoder_hash=seen_by
        )
        if latest is not None:
            self.batches.set_state(data_state)
            log.info("resumed at step %d", latest)
        self.validation = _validation_batches(dataset, self.assets, config, on_devices)
        self.train_step = compile_train_step(config, mesh)
        self.eval_step = compile_eval_step(config, mesh)
        self.rollouts = Rollouts(config, workdir)
        self.record = Record(workdir, mesh, dataset)
        self.reports = Reports(config, workdir)
        if jax.process_index() == 0:
            config_lib.save(config, workdir)

    def loop(self, interrupted: Callable[[], bool]) -> None:
        """Steps until the last one or until interrupted, with everything that comes beside them."""
        with contextlib.ExitStack() as beside:
            beside.callback(self.reports.close)  # last: it tells how the run ended
            beside.enter_context(self.record.running(int(self.state.step)))
            beside.callback(self.rollouts.stop)
            self._loop(interrupted)

    def _loop(self, interrupted: Callable[[], bool]) -> None:
        t, first = self.config.train, int(self.state.step)
        sinks = metrics.make_sinks(self.workdir, self.config, first)
        clock, window, validation = metrics.Clock(), [], None
        trace = profile.traced(self.workdir, self.config.profile, first)
        with metrics.progress_bar(t.steps, first) as bar, trace as before:
            for step in range(first + 1, t.steps + 1):
                distributed.doing(f"step {step}")
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
                if step % t.log_every == 0 or last:
                    line = self._finish_window(step, window, clock)
                    bar.set_postfix_str(_summary(line))
                    sinks.write(step, line | self.rollouts.finished())
                    window = []
                if step % t.eval_every == 0 or step == t.steps:
                    validation = self.validate()
                    sinks.write(step, validation)
                self.reports.due(step)
                if step % t.save_every == 0 or last:
                    distributed.doing(f"the checkpoint of step {step}")
                    self.checkpoints.save(self.state, self.batches.get_state(), self.assets, validation)
                    self.rollouts.saved(step, last)
                    validation = None
                if last:
                    break
        distributed.doing("the last checkpoint")
        self.checkpoints.wait()
        # Several processes ask together whether to stop; while one of them waits they could not.
        found = self.rollouts.close(interrupted) if jax.process_count() == 1 else {}
        if found:
            sinks.write(step, found)
        sinks.close()
        log.info("stopped at step %d of %d; checkpoint in %s", int(self.state.step), t.steps, self.checkpoints.folder)

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

    def validate(self) -> dict[str, float]:
        """Errors of the EMA weights on held-out episodes, in physical units; the same in every process."""
        rng = sharding.put(jax.random.key_data(jax.random.key(self.config.seed)), self.mesh)
        rows = []
        for number, (batch, (target, mask, state)) in enumerate(self.validation):
            distributed.doing(f"validation batch {number}")
            on_devices = pipeline.to_device(batch, sharding.batch_sharding(self.mesh))
            samples = np.asarray(self.eval_step(self.state.ema_params, on_devices, rng, self.borrowed))
            rows.append(metrics.action_errors(samples, target, mask, state, self.assets.actions))
        return {f"val/{name}": float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _assets(config: ConfigDict, dataset: DataSet, actions: ActionSpace, encoders: dict[str, Encoder]) -> Assets:
    return Assets(
        config=config,
        actions=actions,
        prompts=tuple(dataset.instructions),
        control_hz=dataset.metadata["control_hz"] / config.action.stride,
        state_names=tuple(dataset.metadata["state_names"]),
        encoders=identities(encoders),
    )


def _validation_batches(
    dataset: DataSet, assets: Assets, config: ConfigDict, on_devices: NamedSharding
) -> list[tuple[Batch, tuple[np.ndarray, ...]]]:
    """The same few held-out batches every time: this process's rows, and target, mask and state of all rows."""
    iterator = pipeline.batches(
        dataset, "val", assets.actions, config, train=False, sharding=on_devices, encoder_hash=assets.encoders["vision"]
    )
    gather = jax.jit(lambda arrays: arrays, out_shardings=sharding.replicated(on_devices.mesh))
    out = []
    for batch, _ in zip(iterator, range(config.train.eval_batches)):
        known = (batch.target, batch.mask, batch.observation.state)
        out.append((batch, jax.device_get(gather(jax.make_array_from_process_local_data(on_devices, known)))))
    return out


def _summary(line: dict[str, float]) -> str:
    shown = {"centroid": "train/centroid_error", "spread": "train/sample_spread", "loss": "train/loss"}
    parts = [f"{label} {line[key]:.3f}" for label, key in shown.items() if key in line]
    return ", ".join([*parts, f"{line['train/samples_per_second']:.0f} samples/s"])
