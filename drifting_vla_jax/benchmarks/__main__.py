"""Command line: how fast, beside what a user would pick instead, in the same run on this machine.

    python -m drifting_vla_jax.benchmarks --suite=train|infer|loss|data|serve [--config=FILE] [--peers=...] [--out=DIR]

    loss    the drifting loss beside the authors' function and PyPI's drift-models
    infer   image encoder, one action from images and text, the head alone, the first action of a process
    train   optimiser steps: one sample per observation, eight, from stored features; the loop on a data set
    data    batches from demonstrations, beside what decoding alone would take; memory over many batches
    serve   latency and throughput of the server, one client to 64

Peers run in their own Python: --peers=original=PYTHON:CHECKOUT,torch-encoders=PYTHON,official-loss=PYTHON:drift_loss.py,
drift-models=PYTHON. One that is not given or does not run is in the table with its reason. Prints markdown; with --out
writes it and every single time as DIR/<suite>.md and DIR/<suite>.json.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path

from absl import flags

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.core import cli
from drifting_vla_jax.core.folder_lock import owned

FLAGS = flags.FLAGS
CONFIGS = {"infer": "dit_b2", "train": "dit_b2", "data": "rlbench_b2", "serve": "quickstart", "loss": "base"}


def define_flags() -> None:
    flags.DEFINE_enum("suite", None, list(CONFIGS), "what to time", required=True)
    usual = ", ".join(map("=".join, CONFIGS.items()))
    config_files.define_flag(f"of the network; if not given configs/NAME.py: {usual}", required=False)
    flags.DEFINE_list("peers", [], "who else does the work: name=python[:checkout], comma-separated")
    cli.define_path("out", None, "directory for the tables and the single times", writes="folder")
    flags.DEFINE_integer(
        "rounds", None, "runs of every contestant; a number that suits the suite if not given", 1, 10_000
    )
    flags.DEFINE_integer("largest", 0, "loss: points of one more set; 0: none", 0, 10**7)
    cli.define_path("data", None, "train: a data set whose training is timed; data: PerAct demonstrations")
    flags.DEFINE_integer("batches", 5000, "data: batches over which memory is watched", 1, 10**7)


def main(_) -> None:
    from drifting_vla_jax.benchmarks import machine
    from drifting_vla_jax.benchmarks.options import Options
    from drifting_vla_jax.benchmarks.peer import parse, peers

    suite = importlib.import_module(f"drifting_vla_jax.benchmarks.{FLAGS.suite}")
    config = FLAGS.config or config_files.load(CONFIGS[FLAGS.suite])
    mine = owned(FLAGS.out, f"{FLAGS.suite}.json") if FLAGS.out else contextlib.nullcontext()
    with mine, peers(parse(FLAGS.peers)) as others:
        report = suite.run(Options.of(FLAGS, config), others)
    text = f"{machine.describe()}\n\n{report.markdown()}"
    print(text)
    if FLAGS.out:
        out = Path(FLAGS.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{FLAGS.suite}.md").write_text(text)
        about = {"suite": FLAGS.suite, "machine": machine.describe(), "arguments": sys.argv[1:]}
        (out / f"{FLAGS.suite}.json").write_text(json.dumps(about | report.json(), indent=1) + "\n")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
