"""Command line: what the drifting objective does, on problems whose answer is known; ten minutes on two cores.

    python -m drifting_vla_jax.studies.drifting --out=DIR [--parts=toys,chunks,samples,temperatures] [--seeds=2]

Writes DIR/study.md, with tables and pictures, and DIR/study.json with every figure. Trainings run side by side, one to a
core, so that their times compare.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from tqdm import tqdm

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.folder_lock import owned

FLAGS = flags.FLAGS
PARTS = ("toys", "chunks", "samples", "temperatures")


def define_flags() -> None:
    cli.define_path("out", None, "directory of the page", writes="folder", required=True)
    flags.DEFINE_list("parts", list(PARTS), f"which of {', '.join(PARTS)}")
    flags.DEFINE_integer("seeds", 2, "trainings per row (temperatures: one more)", 1, 1000)
    flags.DEFINE_integer("steps", 1500, "optimiser steps of a training", 200, 10**7)
    flags.DEFINE_integer("workers", None, "trainings side by side; one per core if not given", *ranges.PROCESSES.bounds)


def main(_) -> None:
    unknown = set(FLAGS.parts) - set(PARTS)
    if unknown:
        raise ValueError(f"--parts has {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}")
    # Before any process imports jax: a training is too small to be split over cores.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(FLAGS.out).absolute() / "compiled")  # seeds share programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    from drifting_vla_jax.studies.drifting import report as page

    start, out = time.monotonic(), Path(FLAGS.out)
    study = page.Study(parts=tuple(FLAGS.parts), seeds=FLAGS.seeds, steps=FLAGS.steps)
    silent = signal.signal, (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends them without tracebacks after ours
    with owned(out):
        with concurrent.futures.ProcessPoolExecutor(
            FLAGS.workers or os.cpu_count(), multiprocessing.get_context("spawn"), *silent
        ) as pool:
            first = _all(pool, study.jobs(), "study")
            results = first | _all(pool, study.jobs_of_equal_time(first), "equal time")
        text = study.write(results, out)
    print(text)
    print(f"{time.monotonic() - start:.0f} s; the page is {out / 'study.md'}")


def _all(pool, jobs: Sequence, description: str) -> dict:
    """Every job's result, by job."""
    from drifting_vla_jax.studies.drifting.report import run

    futures = {pool.submit(run, job): job for job in jobs}
    done = {}
    for future in tqdm(
        concurrent.futures.as_completed(futures), total=len(futures), desc=description, dynamic_ncols=True
    ):
        done[futures[future]] = future.result()
    return done


if __name__ == "__main__":
    define_flags()
    cli.run(main)
