"""Training: optimiser steps of the full network beside the original's, and the loop on a data set of its own.

A step is everything: images through the frozen encoder (or its stored outputs), context, g samples per observation, the
objective, gradients, clipping, AdamW, EMA. The original's row leaves out its EMA, queues and figures.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.aot.flops import flops
from drifting_vla_jax.benchmarks import network
from drifting_vla_jax.benchmarks.compilations import watched
from drifting_vla_jax.benchmarks.machine import matrix_product
from drifting_vla_jax.benchmarks.options import Options
from drifting_vla_jax.benchmarks.peer import Peers
from drifting_vla_jax.benchmarks.results import Report, goal
from drifting_vla_jax.benchmarks.timing import Case, Comparison, contest, of_peer, timed
from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.models.encoders.registry import is_frozen
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.frozen_encoders import FrozenInputs
from drifting_vla_jax.train.loop import train
from drifting_vla_jax.train.partition import is_frozen_pretrained, split
from drifting_vla_jax.train.state import TrainState, abstract_state, fake_batch
from drifting_vla_jax.train.step import compile_train_step, train_step
from drifting_vla_jax.types import Batch

BATCH = 4  # observations
ONE, MANY, CACHED, HALF = (
    "ours, g = 1, fp32",
    "ours, g = 8, fp32",
    "ours, g = 8, stored features, fp32",
    "ours, g = 8, bf16",
)
CACHED_ONE = "ours, g = 1, stored features, fp32"
LOOP_STEPS, WINDOWS = 600, 6


def run(options: Options, peers: Peers) -> Report:
    """Steps in float32, in bfloat16, and the loop on ``options.data``."""
    rounds, report = options.rounds or 5, Report()
    full = full_precision(options.config, peers, rounds)
    half = half_precision(options.config, peers, max(2, rounds // 3))
    report.contests = [(full, ONE), (half, MANY)]
    report.goals = _goals(full, half)
    if options.data:
        title = f"The loop: {LOOP_STEPS} steps of configs/quickstart.py in {WINDOWS} windows, without the first"
        report.figures[title], wait, late = loop(config_files.load("quickstart"), options.data)
        report.goals += [
            goal("input wait, share of the time", 0.02, lambda: wait, at_most=True),
            goal("compilations after the first window", 0, lambda: late, at_most=True),
        ]
    return report


def full_precision(config: ConfigDict, peers: Peers, rounds: int) -> Comparison:
    """One sample per observation is regression's step: drifting needs two, the network's work is that of one."""
    one = network.at_precision(config, "float32", objective__name="regression", model__remat="none")
    many = network.at_precision(config, "float32", objective__drifting__samples=8, model__remat="none")
    steps = Steps(many)
    ours = [steps.contestant(ONE, one), steps.contestant(MANY, many)]
    if is_frozen(config, "vision"):
        ours += [steps.contestant(CACHED, many, stored=True), steps.contestant(CACHED_ONE, one, stored=True)]
    theirs = of_peer(peers, "original", "original, fp32", "train", samples=BATCH, dtype="float32", batch=BATCH)
    title = f"Training step of {config.name}, {BATCH} observations, float32"
    return contest(title, [matrix_product("float32"), *ours, theirs], rounds)


def half_precision(config: ConfigDict, peers: Peers, rounds: int) -> Comparison:
    """The same in bfloat16, beside our float32."""
    many = network.at_precision(config, "float32", objective__drifting__samples=8, model__remat="none")
    half = network.at_precision(config, "bfloat16", objective__drifting__samples=8, model__remat="none")
    ours = [Steps(many).contestant(MANY, many), Steps(half).contestant(HALF, half)]
    theirs = of_peer(peers, "original", "original, bf16", "train", samples=BATCH, dtype="bfloat16", batch=BATCH)
    return contest(f"The same in bfloat16 ({config.name})", [*ours, theirs], rounds, warmup=0)


class Steps:
    """Steps of one kind of network that hand one state from one to the next, as training does: it is donated."""

    def __init__(self, config: ConfigDict):
        self._mesh = sharding.single_device_mesh()
        self.state, self._borrowed = fresh(config, self._mesh)

    def contestant(self, name: str, config: ConfigDict, stored: bool = False) -> Case:
        """A step of this configuration; with ``stored`` the batch brings what the image encoder says."""
        batch = batch_of(config, stored)
        borrowed = self._borrowed.replace(params={}) if stored else self._borrowed
        batch = jax.device_put(batch, sharding.batch_sharding(self._mesh))
        borrowed = jax.device_put(borrowed, sharding.replicated(self._mesh))
        program = compile_train_step(config, self._mesh)

        def step():
            self.state, info = program(self.state, batch, borrowed)
            return info

        seconds = timed(step)()
        count = flops(lambda *args: train_step(*args, config=config), self.state, batch, borrowed)
        return Case(name, timed(step), seconds, count, len(batch.target), note=f"{seconds:.1f} s with compilation")


def fresh(config: ConfigDict, mesh) -> tuple[TrainState, FrozenInputs]:
    """A state and what stands beside it, random weights in the true shapes."""
    frozen, learned = split(network.params_of(config), lambda path: is_frozen_pretrained(path, config))
    shapes = abstract_state(config, mesh)
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    state = state.replace(params=learned, ema_params=jax.tree.map(jnp.copy, learned))
    state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, shapes))
    text = None
    if is_frozen(config, "text"):
        frozen.pop("text")
        text = network.encoded_of(config, 1)["text"]
    return state, FrozenInputs(frozen, text)


def batch_of(config: ConfigDict, stored: bool) -> Batch:
    """``BATCH`` random observations of one instruction."""
    batch = fake_batch(config, BATCH, prompts=1)
    if not stored:
        return batch
    features = np.asarray(network.encoded_of(config, BATCH)["features"])
    return batch.replace(observation=batch.observation.replace(images=None, features=features))


def loop(config: ConfigDict, data: str) -> tuple[list[list[str]], float, int]:
    """Trains on a data set for a while: a table, the share of the time spent waiting for input, late compilations.

    Late is after the first window of steps and before the last, whose line is written with the validation that ends it;
    figures, whose programs are compiled when they are first drawn, are left out.
    """
    config = network.at_precision(
        config, config.model.dtype, data__path=data, train__wandb="off", train__report_every=0
    )
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "metrics.jsonl"

        def windows_done() -> int:
            return len(lines.read_text().splitlines()) if lines.is_file() else 0

        with config.unlocked():
            t = config.train
            t.steps = t.eval_every = t.save_every = LOOP_STEPS
            t.log_every, t.eval_batches = LOOP_STEPS // WINDOWS, 1
            config.figures.update({name: 0 for name in config.figures if name != "theme"})
        before = os.getloadavg()[0]
        with watched(windows_done) as compilations:
            train(config, folder)
        windows = [json.loads(line) for line in lines.read_text().splitlines()][1:WINDOWS]
    late = sum(0 < when < WINDOWS - 1 for when in compilations)
    shown = {"step_ms": "{:.1f}", "samples_per_second": "{:.0f}", "input_wait_share": "{:.2%}"}
    rows = [["", "median of the windows", "min - max"]]
    for key, form in shown.items():
        values = [window[f"train/{key}"] for window in windows]
        rows.append([key, form.format(np.median(values)), f"{form.format(min(values))} - {form.format(max(values))}"])
    rows += [["compilations in these", str(late), ""], ["load", f"{before:.1f}", f"{os.getloadavg()[0]:.1f} after"]]
    wait = float(np.median([window["train/input_wait_share"] for window in windows]))
    return rows, wait, late


def _goals(full: Comparison, half: Comparison) -> list:
    def best() -> float:
        """Medians, since the dtypes ran in two contests."""
        theirs = min(full["original, fp32"].median_s, half["original, bf16"].median_s)
        return theirs / min(full[ONE].median_s, full[MANY].median_s, half[HALF].median_s)

    def over_original(name: str):
        return lambda: full[name].rate_over(full["original, fp32"])

    return [
        goal("one sample per observation over the original, fp32", 2.5, over_original(ONE)),
        goal("g = 8 over g = 1, time", 1.5, lambda: full[ONE].speedup_over(full[MANY]), at_most=True),
        goal("best dtype over the original's best dtype", 1.0, best),
        goal("stored features, g = 8, over the original, fp32", 5.0, over_original(CACHED)),
        goal("stored features, g = 1, over the original, fp32", 5.0, over_original(CACHED_ONE)),
    ]
