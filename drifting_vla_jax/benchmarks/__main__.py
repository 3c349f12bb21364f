"""Command line: times beside a peer, in the same run on this machine.

    python -m drifting_vla_jax.benchmarks --suite=loss [--out=DIR]

Prints markdown tables; with --out writes them and every single time as DIR/<suite>.md and DIR/<suite>.json.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import jax
from absl import flags

from drifting_vla_jax import cli

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_enum("suite", None, ["loss"], "what to time", required=True)
    flags.DEFINE_string("out", None, "directory for the tables and the single times")
    flags.DEFINE_integer("largest", 32768, "loss: points of the largest set", lower_bound=1)


def main(_) -> None:
    from drifting_vla_jax.benchmarks import loss

    tables, rows = loss.run(FLAGS.largest)
    device = jax.devices()[0]
    text = f"jax {jax.__version__}, {len(jax.devices())} x {device.device_kind}, {platform.processor() or platform.machine()}\n\n"
    text += tables
    print(text)
    if FLAGS.out:
        out = Path(FLAGS.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{FLAGS.suite}.md").write_text(text)
        as_json = {name: [dataclasses.asdict(row) for row in group] for name, group in rows.items()}
        (out / f"{FLAGS.suite}.json").write_text(json.dumps(as_json, indent=1) + "\n")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
