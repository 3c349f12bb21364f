"""Batches from demonstrations: our pipeline, the original's loader on the same episodes, and decoding alone as the roof.

``--data`` is a folder of RLBench demonstrations as ``data.download`` lays them out. They are converted first, pictures as
they are. Every contestant delivers two views per sample; ours are uint8 of the pictures' own size, as the device wants
them, the original's float32 of 224 px, for which a row of ours resizes and normalises on the device.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.benchmarks import network
from drifting_vla_jax.benchmarks.machine import memory_mb
from drifting_vla_jax.benchmarks.options import Options
from drifting_vla_jax.benchmarks.peer import Peers
from drifting_vla_jax.benchmarks.results import Report, goal
from drifting_vla_jax.benchmarks.timing import Case, contest, of_peer
from drifting_vla_jax.core.episode import decode_image
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.models.encoders.dinov2 import MEAN, STD
from drifting_vla_jax.train import sharding

CAMERAS = ("front", "wrist")
BATCH, SIZE = 32, 224
OURS, THEIR_BATCHES = 20, 8  # batches of a run
WINDOWS = 10  # of the watch over memory


def run(options: Options, peers: Peers) -> Report:
    """Rates, then memory.

    Raises:
      ValueError: no demonstrations were given.
    """
    if not options.data:
        raise ValueError(
            "--suite=data needs --data=DIR: demonstrations as drifting_vla_jax.data.download lays them out"
        )
    source, report = Path(options.data), Report()
    tasks = sorted(p.name for p in (source / "train").iterdir() if p.is_dir())
    with tempfile.TemporaryDirectory() as folder:
        config = converted(options.config, source, tasks, Path(folder))
        dataset = DataSet(config.data.path, CAMERAS)
        rows = [
            decoding(dataset, config),
            ours(dataset, config, "ours, to memory"),
            ours(dataset, config, "ours, to the device, 224 px float32", on_device(config)),
            ours(dataset, _with(config, data__cache_mb=2048), "ours, decoded pictures remembered", warm=True),
        ]
        own = {"data": str(source), "tasks": tasks, "cameras": list(CAMERAS), "batch": BATCH, "batches": THEIR_BATCHES}
        for workers in (0, 2):
            name = f"original, {workers} workers"
            samples = BATCH * THEIR_BATCHES
            rows.append(of_peer(peers, "original", name, "loader", samples=samples, workers=workers, **own))
        rows.append(of_peer(peers, "lerobot", "LeRobot's reader", "loader", samples=BATCH * THEIR_BATCHES, **own))
        title = f"Batches of {BATCH}, two views of {config.env.image_size} px (PNG)"
        rates = contest(title, rows, options.rounds or 5)
        report.contests = [(rates, rows[1].name)]
        lines, grown = memory(dataset, config, options.batches)
    report.figures[f"Resident memory over {options.batches:,} batches of 8"] = lines
    base, best = rows[1].name, "original, 2 workers"
    report.goals = [
        goal("samples/s over the original's loader, 2 workers", 10, lambda: rates[base].rate_over(rates[best])),
        goal("samples/s over the original's loader, in this process", 10,
             lambda: rates[base].rate_over(rates["original, 0 workers"])),
        goal("the same with resize and normalisation on the device", 10,
             lambda: rates[rows[2].name].rate_over(rates[best])),
        goal("share of decoding alone", 0.8, lambda: rates[base].rate_over(rates["decoding alone"])),
        goal("memory after the last batch over that after the first tenth", 1.02, lambda: grown, at_most=True),
    ]  # fmt: skip
    return report


def converted(config: ConfigDict, source: Path, tasks: list[str], out: Path) -> ConfigDict:
    """Builds the data set with the project's own command; returns a configuration that reads it."""
    command = [sys.executable, "-m", "drifting_vla_jax.data.build", "--source=peract", f"--input={source}"]
    command += [f"--tasks={','.join(tasks)}", f"--cameras={','.join(CAMERAS)}", f"--out={out / 'set'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{source} cannot be converted: {done.stderr.strip().splitlines()[-1]}")
    config = _with(config, env__cameras=CAMERAS, env__tasks=tuple(tasks), data__path=str(out / "set"))
    size = DataSet(config.data.path, CAMERAS).metadata["image_size"]
    threads = os.cpu_count()
    return _with(config, env__image_size=size, data__batch_size=BATCH, data__cache_mb=0, data__num_threads=threads)


def _with(config: ConfigDict, **changes) -> ConfigDict:
    return network.at_precision(config, config.model.dtype, **changes)


def decoding(dataset: DataSet, config: ConfigDict) -> Case:
    """Nothing but decoding, of encoded pictures in memory, by as many threads as there are cores."""
    split = dataset.split("train")
    encoded = [[split.pictures[row][c] for c in CAMERAS] for row in range(min(len(split), 512))]
    rows = np.random.default_rng(0).integers(0, len(encoded), BATCH * OURS)
    parts = np.array_split(rows, 64)

    def decode(part):
        for row in part:
            for picture in encoded[row]:
                decode_image(picture)

    def work() -> float:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            start = time.perf_counter()
            list(pool.map(decode, parts))
            return time.perf_counter() - start

    return Case("decoding alone", work, samples=BATCH * OURS)


def ours(
    dataset: DataSet,
    config: ConfigDict,
    name: str,
    finish: Callable = lambda batch: batch,
    warm: bool = False,
) -> Case:
    """Shuffled, augmented batches; each run starts at another place and leaves its first batch out."""
    actions = dataset.action_space(config)
    batches = pipeline.batches(dataset, "train", actions, config, train=True)
    places = itertools.count()
    if warm:
        for _ in range(2 * len(dataset.split("train")) // BATCH):
            next(batches)

    def work() -> float:
        batches.set_state({"samples": 1000 * BATCH * next(places)})
        next(batches)
        start = time.perf_counter()
        for _ in range(OURS):
            last = finish(next(batches))
        jax.block_until_ready(jax.tree.leaves(last))
        return time.perf_counter() - start

    return Case(name, work, samples=BATCH * OURS)


def on_device(config: ConfigDict) -> Callable:
    """Puts a batch on the device, resizes its pictures and normalises them there, as the network's first lines do."""
    where = sharding.batch_sharding(sharding.single_device_mesh())

    @jax.jit
    def prepare(images):
        x = images.reshape(-1, *images.shape[2:]).astype("float32") / 255
        x = jax.image.resize(x, (len(x), SIZE, SIZE, 3), "linear")
        return (x - np.array(MEAN, np.float32)) / np.array(STD, np.float32)

    return lambda batch: prepare(pipeline.to_device(batch, where).observation.images)


def memory(dataset: DataSet, config: ConfigDict, count: int) -> tuple[list[list[str]], float]:
    """Resident megabytes after each tenth of the batches, and the last over the first of them."""
    actions = dataset.action_space(config)
    batches = pipeline.batches(dataset, "train", actions, _with(config, data__batch_size=8), train=True)
    seen, each = [], max(1, count // WINDOWS)
    for _ in range(WINDOWS):
        for _ in range(each):
            next(batches)
        seen.append(memory_mb())
    rows = [["batches", *(f"{each * (i + 1):,}" for i in range(WINDOWS))], ["MB", *(f"{mb:.0f}" for mb in seen)]]
    return rows, seen[-1] / seen[0]
