"""Checkpoints: Orbax CheckpointManager, one item per thing a reader may want alone.

    DIR/checkpoints/<step>/
        params, ema_params      nested dicts; frozen encoders are not saved, their identity is in ``assets``
        opt_state               optimiser moments, step, rng; the objective's state, if it has one
        data_state              how far the data iterator has come, so the next batch is the next batch
        assets                  JSON: config, action statistics, cameras, encoders, prompts, what the
                                data held, code version (``assets.py``)

A checkpoint is written beside its final name and renamed, so a killed process leaves the previous one whole. Restores
are always targeted: the shapes and shardings come from the configuration, whatever number of devices wrote the file.
Several processes write one checkpoint together; any number of them can go on from it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from drifting_vla_jax.train.assets import Assets
from drifting_vla_jax.train.state import TrainState, abstract_state

log = logging.getLogger(__name__)

STATE, OLD_STATE = "objective_state", "bank"  # within opt_state: what it is called, and was when drifting alone had one
BEST_METRIC = "val/position_error_cm"
BEST_OF_JOINTS = "val/joint_error"  # where actions have no position


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or cannot be written; the message says which and what to do."""


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, which leaves it to the training loop to ask whether the run is to stop."""

    def reached_preemption(self, step: int) -> bool:
        """Never: JAX takes each question for a step done, and this one may come late, from the thread that saves."""
        return False


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, workdir: str | Path, keep: int | None = None):
        """Opens DIR/checkpoints, making it if needed; keeps the newest ``keep`` and the best by validation.

        Without ``keep`` it is opened for reading only: a checkpoint that a training process is writing is left alone.

        Raises:
          CheckpointError: not all processes of a training run see the same folder.
        """
        self.folder = Path(workdir).absolute() / "checkpoints"
        newest = checkpoint_managers.LatestN(keep)
        best = checkpoint_managers.BestN(
            get_metric_fn=_error, reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        policies = checkpoint_managers.AnyPreservationPolicy([newest, best])
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies,
            best_fn=_error,
            best_mode="min",
            cleanup_tmp_directories=keep is not None,
            read_only=keep is None,
        )
        arrays = ("params", "ema_params", "opt_state")
        handlers = {name: ocp.StandardCheckpointHandler() for name in arrays}
        handlers |= {name: ocp.JsonCheckpointHandler() for name in ("data_state", "assets")}
        self._manager = _Manager(self.folder, options=options, item_handlers=handlers)
        if keep is not None and jax.process_count() > 1:
            self._check_shared()

    def _check_shared(self) -> None:
        latest = self.latest()
        seen = multihost_utils.process_allgather(np.array([self.folder.is_dir(), -1 if latest is None else latest]))
        if (seen != seen[0]).any():
            raise CheckpointError(
                f"the processes do not all see the same checkpoints in {self.folder}; "
                "--workdir must be on a file system that they share"
            )

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step whose validation error was smallest; the latest, and a line, if none was validated."""
        best, latest = self._manager.best_step(), self.latest()
        if best is None and latest is not None:
            log.warning("no checkpoint in %s was validated: the best is the latest, step %d", self.folder, latest)
        return latest if best is None else best

    def save(self, state: TrainState, data_state: Any, assets: Assets, metrics: dict[str, float] | None) -> None:
        """Starts writing a checkpoint in the background.

        Raises:
          CheckpointError: this or the previous background write failed, e.g. the disk is full; older ones are intact.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        needed = sum(x.nbytes for x in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < 1.1 * needed:
            raise CheckpointError(
                f"checkpoint {step} needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free in {self.folder}; "
                f"free some space and start again: step {self.latest()} is intact"
            )
        optimiser = _optimiser(state)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(state.params),
                    ema_params=ocp.args.StandardSave(state.ema_params),
                    opt_state=ocp.args.StandardSave(optimiser),
                    data_state=ocp.args.JsonSave(data_state),
                    assets=ocp.args.JsonSave(assets.to_json()),
                ),
                metrics=metrics,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed(step, error) from error

    def wait(self) -> None:
        """Blocks until the last save is on disk; raises CheckpointError if it failed."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed("the last", error) from error

    def _failed(self, step, error: Exception) -> CheckpointError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return CheckpointError(
            f"checkpoint {step} could not be written to {self.folder}: {reason}; "
            f"check the disk and start again: step {self.latest()} is intact"
        )

    def restore_state(self, step: int, config: ConfigDict, mesh: Mesh) -> tuple[TrainState, Any]:
        """The whole train state on this mesh, and the state of the data iterator."""
        target = abstract_state(config, mesh)
        optimiser = _optimiser(target)
        if STATE in optimiser and OLD_STATE in self._stored(step):
            optimiser[OLD_STATE] = optimiser.pop(STATE)
        items = self._restore(
            step,
            params=ocp.args.StandardRestore(target.params),
            ema_params=ocp.args.StandardRestore(target.ema_params),
            opt_state=ocp.args.StandardRestore(optimiser),
            data_state=ocp.args.JsonRestore(),
        )
        done = items["opt_state"]
        state = TrainState(
            step=done["step"],
            rng=done["rng"],
            params=items["params"],
            ema_params=items["ema_params"],
            opt_state=done["opt_state"],
            objective_state=done.get(STATE, done.get(OLD_STATE, ())),
        )
        return state, items["data_state"]

    def _stored(self, step: int) -> Collection[str]:
        """What the item ``opt_state`` of a checkpoint holds, by name; nothing where that cannot be read."""
        try:
            return self._manager.item_metadata(step)["opt_state"] or ()
        except (OSError, ValueError, KeyError):
            return ()  # ``_restore`` says what is wrong with it

    def restore_assets(self, step: int) -> Assets:
        return Assets.from_json(self._restore(step, assets=ocp.args.JsonRestore())["assets"])

    def restore_ema(self, step: int, config: ConfigDict, mesh: Mesh) -> dict:
        """The weights that act, on this mesh."""
        target = abstract_state(config, mesh).ema_params
        return self._restore(step, ema_params=ocp.args.StandardRestore(target))["ema_params"]

    def _restore(self, step: int, **args):
        if step not in self._manager.all_steps():
            known = ", ".join(map(str, self._manager.all_steps())) or "none"
            raise CheckpointError(f"no checkpoint of step {step} in {self.folder}; there are: {known}")
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**args))
        except Exception as error:  # Orbax raises a bare Exception where a file of an array is damaged
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise CheckpointError(
                f"checkpoint {step} in {self.folder} is damaged or of another configuration: {reason}; "
                f"delete {self.folder / str(step)} to fall back on an older one"
            ) from error

    def close(self) -> None:
        self._manager.close()


def _optimiser(state: TrainState) -> dict[str, Any]:
    """What only training needs."""
    item = {"opt_state": state.opt_state, "step": state.step, "rng": state.rng}
    return item | {STATE: state.objective_state} if jax.tree.leaves(state.objective_state) else item


def _error(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC if BEST_METRIC in metrics else BEST_OF_JOINTS]
