"""Converts a pretrained encoder of a Hugging Face checkpoint (``convert.py``) and writes it.

    python -m drifting_vla_jax.models.pretrained --model=facebook/dinov2-large --out=DIR

DIR may stand wherever a configuration names an encoder.
"""

from __future__ import annotations

from pathlib import Path

import jax
from absl import flags

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.models.pretrained import load as pretrained

FLAGS = flags.FLAGS


def define_flags() -> None:
    example = "facebook/dinov2-large, openai/clip-vit-large-patch14"
    cli.define_path("model", None, f"hub id ({example}) or a directory", hub=True, required=True)
    cli.define_path("out", None, "directory to write", writes="folder", required=True)
    flags.DEFINE_integer(
        "random",
        None,
        "no download: random weights of this seed in the true shapes, for measuring",
        *ranges.SEED.bounds,
    )


def main(_) -> None:

    jax.config.update("jax_platforms", "cpu")  # nothing here is worth an accelerator, which may be busy
    encoder = (
        pretrained.random_weights(FLAGS.model, FLAGS.random)
        if FLAGS.random is not None
        else pretrained.load(FLAGS.model)
    )
    out = Path(FLAGS.out)
    with owned(out):
        pretrained.write(encoder, out)
    count = sum(value.size for value in encoder.params.values())
    print(f"{encoder.source}: {count:,} parameters, hash {encoder.hash}\nwritten to {out}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
