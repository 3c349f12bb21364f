"""Command line: runs a configuration's frozen image encoder over its data set once and stores what comes out.

    python -m drifting_vla_jax.train.cache_features --config=configs/dit_b2.py

Training with ``config.data.features=True`` then reads features instead of images. Stop it whenever you like: the same
command goes on where it was. The format is that of ``stored_features``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.core import cli
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.folder_lock import owned

FLAGS = flags.FLAGS


def define_flags() -> None:
    config_files.define_flag()
    flags.DEFINE_integer("batch_size", 16, "time steps encoded in one call", 1, 65536)


def main(_) -> None:
    from drifting_vla_jax.config.io import from_flag

    where = cache_features(from_flag(), FLAGS.batch_size)
    size = sum(file.stat().st_size for file in where.iterdir())
    print(f"{size / 1e9:.2f} GB in {where}; train with --config.data.features=True and no augmentation of images")


def cache_features(config: ConfigDict, batch_size: int) -> Path:
    """Encodes every time step of both splits that is not encoded yet; returns the folder.

    Raises:
      ValueError: the image encoder is not a frozen pretrained one, or there are several data sets.
      OSError: the disk has too little room.
    """
    import jax

    from drifting_vla_jax.data import feature_cache
    from drifting_vla_jax.data.dataset import DataSet
    from drifting_vla_jax.models.encoders.registry import is_frozen
    from drifting_vla_jax.models.pretrained import load as pretrained
    from drifting_vla_jax.models.vla import make_vision
    from drifting_vla_jax.types import is_mixture

    if is_mixture(config):
        raise ValueError(
            "features are stored of one data set; leave config.data.mixture.paths empty, set config.data.path"
        )
    if not is_frozen(config, "vision"):
        raise ValueError(
            f"config.model.vision.name is {config.model.vision.name!r}, config.train.freeze {config.train.freeze}: only "
            "the outputs of a frozen pretrained encoder without adapters can be stored"
        )
    dataset = DataSet(config.data.path, config.env.cameras)
    dataset.check(config)
    encoder = pretrained.load(config.model.vision.name)
    params = jax.device_put(
        jax.tree.map(lambda x: np.asarray(x, jax.numpy.dtype(config.model.frozen_dtype)), encoder.tree())
    )
    encode = jax.jit(make_vision(config).apply)

    def features(images: np.ndarray) -> np.ndarray:
        """uint8 [b v size size 3] -> bfloat16 [b v tokens width]."""
        flat = encode({"params": params}, images.reshape(-1, *images.shape[2:]))
        return np.asarray(flat.astype(feature_cache.BFLOAT16)).reshape(*images.shape[:2], *flat.shape[1:])

    size, views = config.env.image_size, len(dataset.cameras)
    example = jax.ShapeDtypeStruct((views, size, size, 3), "uint8")
    tokens, width = jax.eval_shape(encode, {"params": params}, example).shape[1:]
    where = feature_cache.folder(dataset, config, encoder.hash)
    where.mkdir(parents=True, exist_ok=True)
    splits = {name: dataset.split(name) for name in dataset.metadata["episodes"]}
    _check_room(where, sum(len(s) for s in splits.values()) * views * tokens * width * 2)
    about = {
        "encoder": encoder.source,
        "hash": encoder.hash,
        "cameras": list(dataset.cameras),
        "dataset": feature_cache.fingerprint(dataset),
        "shape": [views, tokens, width],
    }
    with owned(where):
        for name, split in splits.items():
            _encode_split(where / f"{name}.npy", split, features, (len(split), views, tokens, width), batch_size, about)
        write_atomically(where / "about.json", json.dumps(about, indent=2) + "\n")
        for name in splits:
            (where / f"{name}.progress").unlink(missing_ok=True)
    return where


def _check_room(where: Path, needed: int) -> None:
    there = sum(file.stat().st_size for file in where.glob("*.npy"))
    free = shutil.disk_usage(where).free + there
    if needed > 0.95 * free:
        raise OSError(
            f"stored features need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free in {where}; a larger "
            "config.model.vision.pool or a smaller image_size takes less"
        )


def _encode_split(path: Path, split, features, shape: tuple[int, ...], batch_size: int, about: dict) -> None:
    """Fills the file row by row; ``<split>.progress`` says how far, and of what."""
    from tqdm import tqdm

    progress = path.with_suffix(".progress")
    before = json.loads(progress.read_text()) if progress.is_file() else {}
    done = before["rows"] if path.is_file() and before.get("about") == about else 0
    if done == 0 and path.is_file() and (path.parent / "about.json").is_file():
        if json.loads((path.parent / "about.json").read_text()) == about:
            return  # finished by an earlier call
        (path.parent / "about.json").unlink()
    out = np.lib.format.open_memmap(path, "r+" if done else "w+", np.uint16, shape)
    with tqdm(total=shape[0], initial=done, desc=path.stem, unit="step", dynamic_ncols=True) as bar:
        for start in range(done, shape[0], batch_size):
            rows = np.minimum(np.arange(start, start + batch_size), shape[0] - 1)  # one compiled size
            encoded = features(np.stack([split.images(row) for row in rows]))
            count = min(batch_size, shape[0] - start)
            out[start : start + count] = encoded[:count].view(np.uint16)
            out.flush()
            write_atomically(progress, json.dumps({"rows": start + count, "about": about}))
            bar.update(count)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
