"""How long a process takes to its first action: import, restore, compile, act; with and without compiled programs on disk.

    python -m drifting_vla_jax.benchmarks.first_action --workdir=RUN [--cache=DIR]

does it once and prints the seconds of each stage as one line of JSON. ``stages`` makes a run to do it with, random
weights in the true shapes, and starts three such processes: the second and third find the compiled programs of the first.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.core import cli

FLAGS = flags.FLAGS
STAGES = ("import", "restore", "compile and act", "second action", "in all")


def define_flags() -> None:
    flags.DEFINE_string("workdir", None, "a run with a checkpoint", required=True)
    flags.DEFINE_string("cache", None, "where compiled programs are kept; none if not given")


def main(_) -> None:
    clock = [time.perf_counter()]
    from drifting_vla_jax.policy import compile_cache, restore
    from drifting_vla_jax.wire import protocol

    if FLAGS.cache:
        compile_cache.keep(Path(FLAGS.cache))
    clock.append(time.perf_counter())
    policy = restore.restore(FLAGS.workdir)
    clock.append(time.perf_counter())
    request = protocol.example_observation(policy.metadata)
    for _ in range(2):
        policy.infer([request])
        clock.append(time.perf_counter())
    spans = [b - a for a, b in itertools.pairwise(clock)]
    print(json.dumps(dict(zip(STAGES, [*spans, clock[3] - clock[0]]))))


def stages(config: ConfigDict) -> list[list[str]]:
    """Rows of a table, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run, cache = write_run(config, Path(folder)), Path(folder) / "cache"
        ways = {"nothing compiled before": None, "cache, first start": cache, "cache, later start": cache}
        rows = [["", *STAGES]]
        for name, where in ways.items():
            command = [sys.executable, "-m", "drifting_vla_jax.benchmarks.first_action", f"--workdir={run}"]
            command += [f"--cache={where}"] if where else []
            said = subprocess.run(command, capture_output=True, text=True)
            if said.returncode:
                rows.append([name, f"failed: {said.stderr.strip().splitlines()[-1]}", *[""] * (len(STAGES) - 1)])
                continue
            spans = json.loads(said.stdout.splitlines()[-1])
            rows.append([name, *(f"{spans[stage]:.1f}" for stage in STAGES)])
    return rows


def write_run(config: ConfigDict, folder: Path) -> Path:
    """A run's checkpoint and its encoders, as training would leave them."""
    import jax

    from drifting_vla_jax.benchmarks import network
    from drifting_vla_jax.models.encoders.registry import ENCODERS, is_pretrained
    from drifting_vla_jax.models.pretrained import load as pretrained
    from drifting_vla_jax.train import sharding
    from drifting_vla_jax.train.checkpoint import Checkpoints
    from drifting_vla_jax.train.frozen_encoders import identities
    from drifting_vla_jax.train.state import abstract_state

    encoders, changes = {}, {}
    for part in ENCODERS:
        if is_pretrained(config, part):
            encoders[part] = pretrained.random_weights(config.model[part].name, 0)
            pretrained.write(encoders[part], folder / part)
            changes[f"model__{part}__name"] = str(folder / part)
    config = network.at_precision(config, "float32", **changes)
    mesh = sharding.single_device_mesh()
    state = jax.tree.map(
        lambda leaf: jax.device_put(jax.numpy.zeros(leaf.shape, leaf.dtype), leaf.sharding),
        abstract_state(config, mesh),
    )
    (folder / "run").mkdir()
    checkpoints = Checkpoints(folder / "run", keep=1)
    checkpoints.save(state, {"samples": 0}, network.assets_of(config, identities(encoders)), None)
    checkpoints.close()
    return folder / "run"


if __name__ == "__main__":
    define_flags()
    cli.run(main)
