"""A data set on disk, opened for reading without tensorflow: low-dimensional arrays in memory, images on demand.

Row i of every array is record i (see ``tfds_writer.py``), so a window is a few rows of memory and one image decode per
view.
"""

from __future__ import annotations

import difflib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tensorflow_datasets.proto import tf_example_pb2

from drifting_vla_jax.core.action_layout import ActionLayout, layout_of
from drifting_vla_jax.core.episode import decode_image
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.data import tfds_writer
from drifting_vla_jax.data.normalization import ActionNormalizer


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
      state: float32 [n, s].  actions: float32 [n, k], one step ahead.
      last: int [n], the row on which row i's episode ends.
      keyframe: int [n], the row whose action is the next keyframe seen from row i; None where they are not known.
      task: int [n], index into ``DataSet.tasks``.
      prompts: for each row, the ids of its paraphrases, as (first, count) [n, 2] into ``prompt_ids``.
      records: random access to whole records, images still encoded.
      pictures: the same, read for their images alone.
      cache: decoded images, if all of them fit the memory allowed.
      size: pixels, height and width of a view.
      source: int [n], which set of a mixture each row is of; None where there is one set (``mixture.py``).
      seen: bool [n, v], which views each row has, where some may be missing; these are read as black.
    """

    state: np.ndarray
    actions: np.ndarray
    last: np.ndarray
    keyframe: np.ndarray | None
    task: np.ndarray
    prompts: np.ndarray
    prompt_ids: np.ndarray
    records: Sequence
    pictures: Pictures
    cameras: tuple[str, ...]
    cache: Cache | None
    size: int
    source: np.ndarray | None = None
    seen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.state)

    @property
    def picture(self) -> tuple[int, int, int]:
        """Shape of one view."""
        return (self.size, self.size, 3)

    def ahead(self, action: ConfigDict) -> np.ndarray:
        """For each row, the row whose action a chunk starts with there, int [n]: see ``normalization.chunk_indices``.

        Raises:
          ValueError: ``config.action.keyframes`` of a data set that has none.
        """
        if not action.keyframes:
            return np.minimum(np.arange(len(self)) + action.stride - 1, self.last)
        if self.keyframe is None:
            raise ValueError(
                "config.action.keyframes is True, but the data set has no keyframes; build one with --source=peract or set "
                "it to False"
            )
        return self.keyframe

    def rows_before(self, row: int, history: int, stride: int) -> np.ndarray:
        """``row`` and ``history`` earlier ones of its episode, ``stride`` apart, oldest first, the first one repeated."""
        first = int(np.searchsorted(self.last, row))  # rows of earlier episodes end before this one
        return np.maximum(row - stride * np.arange(history, -1, -1), first)

    def images(self, row: int) -> np.ndarray:
        """The views of one time step, uint8 [v, size, size, 3]."""
        out = np.empty((len(self.cameras), *self.picture), np.uint8)
        self.read(row, out)
        return out

    def read(self, row: int, out: np.ndarray) -> None:
        """The same, written to ``out``."""
        if self.cache is not None and self.cache.filled[row]:
            out[:] = self.cache.frames[row]
            return
        encoded = self.pictures[row]
        for view, camera in enumerate(self.cameras):
            out[view] = decode_image(encoded[camera]) if self.seen is None or self.seen[row, view] else 0
        if self.cache is not None:
            self.cache.frames[row] = out
            self.cache.filled[row] = True  # after the frames: another thread may be reading


@dataclass(frozen=True)
class Cache:
    """Decoded frames of a split, uint8 [n, v, size, size, 3], filled as they are first asked for."""

    frames: np.ndarray
    filled: np.ndarray

    @classmethod
    def within(cls, megabytes: int, rows: int, views: int, size: int) -> Cache | None:
        """An empty one, or None if all frames take more memory than that."""
        shape = (rows, views, size, size, 3)
        fits = np.prod(shape, dtype=np.int64) <= megabytes * 2**20
        return cls(np.empty(shape, np.uint8), np.zeros(rows, bool)) if fits else None


class Pictures:
    """``pictures[row][camera]`` -> the encoded image: TFDS's record read for its images alone, in a tenth of the time."""

    def __init__(self, records: Sequence[bytes]):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict[str, bytes]:
        features = tf_example_pb2.Example.FromString(self._records[row]).features.feature
        return {
            key.removeprefix("images/"): features[key].bytes_list.value[0]
            for key in features
            if key.startswith("images/")
        }


def read_metadata(path: str | Path) -> dict:
    """The datasheet of a data set and everything ``tfds_writer.About`` holds.

    Raises:
      FileNotFoundError: there is no data set; the message says how to make one.
    """
    file = tfds_writer.folder(Path(path)) / "metadata.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"no data set at {path}; make one with: "
            f"python -m drifting_vla_jax.data.build --source=metaworld --tasks=... --episodes=... --out={path}"
        )
    kinds = {"cameras": list, "image_size": int, "state_names": list, "instructions": list, "episodes": dict}
    return read_dict(file, kinds, advice="build the data set again")


class DataSet:
    """A folder written by ``drifting_vla_jax.data.build``.

    Attributes:
      path: as it was given.
      metadata: the datasheet and everything ``tfds_writer.About`` holds.
      tasks: names, in order of first appearance.
      instructions: every distinct instruction.
      record_bytes: {split: bytes of all its records}.
    """

    def __init__(self, path: str | Path, cameras: Sequence[str]):
        """Opens ``path`` for the given views.

        Raises:
          FileNotFoundError: there is no data set; the message says how to make one.
          ValueError: the data set lacks a camera.
        """
        self.path, self.folder, self.metadata = str(path), tfds_writer.folder(Path(path)), read_metadata(path)
        for camera in cameras:
            if camera not in self.metadata["cameras"]:
                raise ValueError(
                    f"data set {path} has cameras {', '.join(self.metadata['cameras'])}; config.env.cameras asks for "
                    f"{camera!r}. Build the data set with that camera or change config.env.cameras"
                )
        self.cameras = tuple(cameras)
        self.instructions: list[str] = self.metadata["instructions"]
        episodes = [e for split in self.metadata["episodes"].values() for e in split]
        self.tasks = list(dict.fromkeys(e["task"] for e in episodes))
        reader = tfds.builder_from_directory(str(self.folder))
        skip = {"images": {camera: tfds.decode.SkipDecoding() for camera in self.metadata["cameras"]}}
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        splits = self.metadata["episodes"]
        self.record_bytes = {s: reader.info.splits[s].num_bytes for s in splits}
        self._records = {s: reader.as_data_source(s, decoders=skip) for s in splits}
        self._pictures = {s: Pictures(reader.as_data_source(s, deserialize_method=raw)) for s in splits}

    def split(self, name: str, cache_mb: int = 0) -> Split:
        """Loads the small arrays of ``train`` or ``val``; keeps decoded images if all fit in ``cache_mb``.

        Raises:
          ValueError: there is no such split.
        """
        if name not in self.metadata["episodes"]:
            raise ValueError(f"data set {self.path} has no split {name}; it has {', '.join(self.metadata['episodes'])}")
        episodes = self.metadata["episodes"][name]
        low = _rows_of(self.folder / f"low_dim-{name}.npz", episodes, len(self._records[name]))
        counts = np.array([len(e["instructions"]) for e in episodes])
        spans = np.stack([np.cumsum(counts) - counts, counts], axis=1)
        size = self.metadata["image_size"]
        return Split(
            state=low["state"],
            actions=low["actions"],
            last=low["last"],
            keyframe=low.get("keyframe"),
            task=np.array([self.tasks.index(e["task"]) for e in episodes])[low["episode"]],
            prompts=spans[low["episode"]],
            prompt_ids=np.concatenate([np.array(e["instructions"]) for e in episodes]),
            records=self._records[name],
            pictures=self._pictures[name],
            cameras=self.cameras,
            cache=Cache.within(cache_mb, len(low["state"]), len(self.cameras), size),
            size=size,
        )

    def action_space(self, config: ConfigDict) -> ActionNormalizer:
        """Normalisation statistics of the training split, one pass over low-dimensional data."""
        train = self.split("train")
        ahead, action = train.ahead(config.action), config.action
        how = (action.horizon, action.frame, layout_of(config))
        return ActionNormalizer.fit(train.state, train.actions, ahead, train.last, *how)

    def check(self, config: ConfigDict) -> None:
        """Compares the data set with the configuration.

        Raises:
          ValueError: no split to train on, another image size, action layout or state length, or a task without
            demonstrations; says what to change.
        """
        self.check_form(config)
        check_tasks(config, self.tasks, f"data set {self.path}")

    def check_form(self, config: ConfigDict) -> None:
        """The part of ``check`` that every set of a mixture must pass: what its pictures and numbers are."""
        if not self.metadata["episodes"].get("train"):
            raise ValueError(
                f"data set {self.path} has no split train, only {', '.join(self.metadata['episodes']) or 'nothing'}: there is "
                "nothing to learn from; build it again with a smaller --val_fraction"
            )
        found, wanted = self.metadata["image_size"], config.env.image_size
        if found != wanted:
            raise ValueError(
                f"data set {self.path} has images of {found} px, config.env.image_size is {wanted}; "
                f"change the config or build the data set with --image_size={wanted}"
            )
        layout, own = layout_of(config), ActionLayout.from_json(self.metadata.get("layout"))
        if layout != own:
            raise ValueError(
                f"data set {self.path} has actions of layout {own}, the configuration's is {layout}; change "
                "config.action.layout, joints and grippers"
            )
        names = self.metadata["state_names"]
        if len(names) != config.env.state_dim:
            raise ValueError(
                f"data set {self.path} has a state of {len(names)} ({', '.join(names)}), "
                f"config.env.state_dim is {config.env.state_dim}"
            )


def _rows_of(path: Path, episodes: Sequence[dict], records: int) -> dict[str, np.ndarray]:
    """The small arrays of a split, whose rows are those of its episodes one after the other.

    Raises:
      ValueError: they are damaged, or not those of these episodes.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            low = {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; build the data set again") from error
    lengths = np.array([episode["length"] for episode in episodes], int)
    ends = np.cumsum(lengths)
    right = {"episode": np.repeat(np.arange(len(lengths)), lengths), "last": np.repeat(ends - 1, lengths)}
    for name, rows in right.items():
        if not np.array_equal(low.get(name), rows):
            raise ValueError(f"{path}: {name} is not that of the episodes in metadata.json; build the data set again")
    for name in ("state", "actions", "records", "keyframe"):
        found = records if name == "records" else len(low[name]) if name in low else None
        if found != len(rows) and not (found is None and name == "keyframe"):
            raise ValueError(f"{path}: {len(rows)} rows, but {found or 'no'} {name}; build the data set again")
    return low


def check_tasks(config: ConfigDict, tasks: Sequence[str], whose: str) -> None:
    """Raises ValueError if ``config.env.tasks`` names a task that there are no demonstrations of."""
    for task in config.env.tasks:
        if task not in tasks:
            near = difflib.get_close_matches(task, tasks, 1) or tasks
            raise ValueError(
                f"{whose} has no demonstrations of {task!r}; nearest is {near[0]!r}, it has {', '.join(tasks)}"
            )
