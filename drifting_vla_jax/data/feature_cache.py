"""Outputs of a frozen image encoder, stored beside the data set they were computed from.

    DATASET/features/<encoder hash>-<pixels>px-pool<k>/
        about.json                  cameras, tokens, width, fingerprint of the data set; written last
        train.npy, val.npy          bfloat16 (as its 16 bits) [rows, cameras, tokens, width], row i of the data set

The folder's name says which encoder and which image transform made them, so that others are never mistaken for them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.data.dataset import DataSet

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
COMMAND = "python -m drifting_vla_jax.train.cache_features --config=..."


def folder(dataset: DataSet, config: ConfigDict, encoder_hash: str) -> Path:
    """Where features of this encoder and this image transform are."""
    v = config.model.vision
    return dataset.folder / "features" / f"{encoder_hash}-{v.image_size or config.env.image_size}px-pool{v.pool}"


def fingerprint(dataset: DataSet) -> str:
    """Names the content that features were computed from; of a data set that does not say it, its metadata."""
    if "fingerprint" in dataset.metadata:
        return dataset.metadata["fingerprint"]
    return hashlib.sha256((dataset.folder / "metadata.json").read_bytes()).hexdigest()[:16]


def open_features(dataset: DataSet, split: str, config: ConfigDict, encoder_hash: str) -> Features:
    """The features of a split for ``config.env.cameras``, read from disk as they are asked for.

    Raises:
      FileNotFoundError: there are none of this encoder and transform.
      ValueError: they are of another data set, or lack a camera.
    """
    where = folder(dataset, config, encoder_hash)
    if not (where / "about.json").is_file():
        others = sorted(path.parent.name for path in (dataset.folder / "features").glob("*/about.json"))
        raise FileNotFoundError(
            f"no stored features {where.name} in {dataset.folder} (there are: {', '.join(others) or 'none'}); "
            f"make them with {COMMAND}"
        )
    about = read_dict(where / "about.json", {"cameras": list}, advice=f"delete {where} and run {COMMAND}")
    if about["dataset"] != fingerprint(dataset):
        raise ValueError(f"{where} was made from another version of the data set; delete it and run {COMMAND}")
    missing = [camera for camera in dataset.cameras if camera not in about["cameras"]]
    if missing:
        raise ValueError(f"{where} has no features of camera {', '.join(missing)}; delete it and run {COMMAND}")
    stored = np.load(where / f"{split}.npy", mmap_mode="r")
    return Features(stored, [about["cameras"].index(camera) for camera in dataset.cameras])


class Features:
    """``features[row]`` -> bfloat16 [v, tokens, width]."""

    def __init__(self, stored: np.ndarray, cameras: list[int]):
        self._stored, self._cameras = stored, cameras

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, row: int) -> np.ndarray:
        return np.asarray(self._stored[row])[self._cameras].view(BFLOAT16)
