"""Command line: a checkpoint -> a folder that serves without the code of the network.

    python -m drifting_vla_jax.policy.export --workdir=runs/mine --out=runs/mine-policy \\
        [--step=latest|best|N] [--platforms=cpu,cuda,tpu] [--num_samples=1] [--choose=first|nearest_mean] [--dataset=NAME]
    python -m drifting_vla_jax.main --config=configs/quickstart.py --mode=serve --workdir=runs/mine-policy

``artifact.py`` says what is in the folder. Other frameworks read weights.safetensors. The folder appears under its name
once it is complete.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export as jax_export

from drifting_vla_jax import __version__
from drifting_vla_jax.core import cli, hub
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.models.encoders.registry import is_pretrained
from drifting_vla_jax.models.layers import no_custom_kernels
from drifting_vla_jax.models.tokenizers import TOKENIZER_FILES
from drifting_vla_jax.policy import artifact, restore
from drifting_vla_jax.policy.restore import RestoredPolicy
from drifting_vla_jax.types import SELECTION_RULES, Text

FLAGS = flags.FLAGS
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def define_flags() -> None:
    cli.define_path("workdir", None, "directory of the run", required=True)
    cli.define_path("out", None, "directory of the exported policy; it must not exist", writes="folder", required=True)
    flags.DEFINE_string("step", "latest", "which checkpoint, latest | best | a number")
    flags.DEFINE_list("platforms", ["cpu", "cuda", "tpu"], f"what it is to run on, of {', '.join(PLATFORMS)}")
    flags.DEFINE_integer("num_samples", 1, "chunks drawn for every observation", 1, 65536)
    flags.DEFINE_enum("choose", "first", SELECTION_RULES, "which of them acts")
    flags.DEFINE_string("dataset", "", "of a policy that learned from several data sets: the one to act for")
    for part in ("vision", "text"):
        cli.define_path(f"{part}_weights", None, f"where the {part} encoder lies, if not as in training", hub=True)


def export(
    trained: RestoredPolicy, out: str | Path, platforms: Sequence[str], num_samples: int = 1, choose: str = "first"
) -> Path:
    """Writes the artifact; returns its folder.

    Raises:
      ValueError: an unknown platform, or ``out`` exists.
    """
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise ValueError(f"--platforms={','.join(platforms)}: expected some of {', '.join(PLATFORMS)}")
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists; choose another --out or delete it")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    weights = flatten_dict(trained.params, sep="/")
    for name, function in lower(trained, weights, platforms, num_samples, choose).items():
        (partial / name).write_bytes(function.serialize())
    _write_weights(weights, partial / artifact.WEIGHTS)
    about = {
        "format": artifact.FORMAT,
        "version": artifact.VERSION,
        "metadata": trained.metadata(num_samples, choose),
        "actions": trained.assets.actions.to_json(),
        "tokenizer": _write_tokenizer(trained, partial),
        "platforms": list(platforms),
        "encoders": trained.assets.encoders,
        "versions": {"drifting_vla_jax": __version__} | {n: importlib.metadata.version(n) for n in ("jax", "jaxlib")},
    }
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    about["files"] = {path.relative_to(partial).as_posix(): artifact.file_hash(path) for path in files}
    about["hash"] = artifact.own_hash(about)
    (partial / artifact.ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    partial.rename(out)
    return out


def lower(
    trained: RestoredPolicy, weights: Mapping[str, jax.Array], platforms: Sequence[str], num_samples: int, choose: str
) -> dict[str, jax_export.Exported]:
    """The two functions of an artifact by file name; of the weights only shapes are read."""
    config, shape = trained.assets.config, jax.ShapeDtypeStruct
    shapes = {path: shape(x.shape, x.dtype) for path, x in weights.items()}
    text = {path: x for path, x in shapes.items() if path.startswith(artifact.TEXT)}
    rest = {path: x for path, x in shapes.items() if path not in text}

    def encode_text(params, tokens):
        found = trained.encode_text(unflatten_dict(params, sep="/"), tokens)
        return found.words, found.summary, found.mask

    def act(params, images, state, text, seeds):
        params, text = unflatten_dict(params, sep="/"), Text(*text)
        return trained.act(params, images, state, text, seeds, num_samples=num_samples, choose=choose)

    (b,) = jax_export.symbolic_shape("b")
    size = config.env.image_size
    with no_custom_kernels():
        encoder = jax_export.export(jax.jit(encode_text), platforms=platforms)(
            text, shape((1, config.data.max_tokens), np.int32)
        )
        heard = tuple(shape((b, *x.shape[1:]), x.dtype) for x in encoder.out_avals)
        actor = jax_export.export(jax.jit(act), platforms=platforms)(
            rest,
            shape((b, len(trained.assets.cameras) * (1 + config.model.history), size, size, 3), np.uint8),
            shape((b, config.env.state_dim), np.float32),
            heard,
            shape((b,), np.uint32),
        )
    return {artifact.ENCODE_TEXT: encoder, artifact.ACT: actor}


def _write_weights(weights: Mapping[str, jax.Array], path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, path)
    path.chmod(0o644)  # the library makes it the owner's alone


def _write_tokenizer(trained: RestoredPolicy, out: Path) -> dict:
    """Copies the vocabulary, if there is one; returns what artefact.json says about it."""
    config = trained.assets.config
    length = config.data.max_tokens
    if not is_pretrained(config, "text"):
        return {"kind": "bytes", "length": length}
    folder = hub.folder(config.model.text.name, TOKENIZER_FILES)
    (out / artifact.TOKENIZER).mkdir()
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / artifact.TOKENIZER / name)
    return {"kind": "clip", "length": length}


def main(_) -> None:
    if FLAGS.step not in ("latest", "best") and not FLAGS.step.isdigit():
        raise ValueError(f"--step={FLAGS.step} is no step; expected latest, best or a number")
    given = {"vision": FLAGS.vision_weights, "text": FLAGS.text_weights}
    encoders = {part: name for part, name in given.items() if name}
    trained = restore.load(FLAGS.workdir, FLAGS.step, encoders, FLAGS.dataset)
    out = Path(FLAGS.out)
    with owned(out.parent, out.name):
        export(trained, out, FLAGS.platforms, FLAGS.num_samples, FLAGS.choose)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"step {trained.step} of {FLAGS.workdir} for {', '.join(FLAGS.platforms)}: {size / 1e6:.1f} MB in {out}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
