"""TFDS data sets in the form of RLDS, read without tensorflow: a record is an episode, its steps lie side by side.

    <set>/<version>/dataset_info.json, features.json, <name>-<split>.tfrecord-00000-of-00008 (or .array_record-...)
    record       tf.train.Example: "steps/observation/image": t encoded pictures, "steps/action": t k numbers, ...

Fields are named without "steps/": observation/image, action, language_instruction. Nothing says how many steps there are per
second: the mapping does (``control_hz``), and which texts are the instruction (``instruction``, the plainest first).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format, message
from tensorflow_datasets.proto import tf_example_pb2

from drifting_vla_jax.core import metadata
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.recorded import mapping, presets
from drifting_vla_jax.data.sources.recorded.base import (
    Faults,
    Job,
    RecordedEpisode,
    RecordedSettings,
    RecordingError,
    chosen,
)
from drifting_vla_jax.data.sources.recorded.source import RecordedSource
from drifting_vla_jax.data.sources.rlds import tfrecord

STEPS = "steps/"
NUMBERS = "fiub"  # kinds of numpy's types
MOST = 10**7  # episodes in a file
# What the readers of TFDS raise for files that others than itself wrote:
_UNREADABLE = (ValueError, LookupError, OSError, AttributeError, TypeError, ImportError, RuntimeError, AssertionError,
               json_format.Error)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where an episode is: a file, and the first byte and the length of its record, or its number (``length`` None).

    ``fault``: what is wrong with the file there; empty where nothing is.
    """

    file: Path
    at: int
    length: int | None = None
    fault: str = ""

    def __str__(self) -> str:
        return f"the episode at {self.at} of {self.file}"


def read_mapping(name: str) -> dict:
    """A mapping for RLDS.

    Raises:
      mapping.MappingError: see ``mapping.load``; or it does not say what these data leave open.
    """
    spec = mapping.load(name, presets.RLDS)
    for key, why in (("control_hz", "how many steps there are per second"), ("instruction", "which text is asked for")):
        if key not in spec:
            raise mapping.MappingError(f"{name}: {key} is missing; RLDS does not say {why}")
    return spec


def open_files(settings: RecordedSettings) -> RldsFiles:
    """The data set of these settings; raises as ``RldsFiles`` does."""
    return RldsFiles(settings)


class RldsFiles:
    """A prepared data set, see ``base.Format``; an episode is a ``Place``.

    Raises (on opening):
      RecordingError: no data set there, or its description is damaged or says too little; no steps.
      mapping.MappingError: texts that are not there.
    """

    def __init__(self, settings: RecordedSettings):
        self._folder = folder = _folder(Path(settings.input))
        try:
            metadata.read_json(folder / "dataset_info.json")
            _check_classes(metadata.read_json(folder / "features.json").values, folder / "features.json")
            info = tfds.builder_from_directory(str(folder)).info
            if "steps" not in info.features or not isinstance(info.features["steps"], tfds.features.Dataset):
                raise RecordingError("it has no steps, as RLDS has")
            self.widths, pictures, of_steps = _sorted(info.features["steps"].feature, "")
            of_episodes = _sorted({name: info.features[name] for name in info.features if name != "steps"}, "")[2]
            shards = {
                name: list(zip(map(Path, split.filepaths), split.shard_lengths, strict=True))
                for name, split in info.splits.items()
            }
        except _UNREADABLE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RecordingError(f"{folder} is no TFDS data set that can be read: {reason}") from error
        self.cameras, self.odd = list(pictures), {name: odd for name, odd in pictures.items() if odd}
        self.hz, self.names, self.revision = float(settings.mapping["control_hz"]), {}, ""
        keys = {name: name for name in of_episodes} | {name: STEPS + name for name in of_steps}
        self._texts = []
        for name in settings.mapping["instruction"]:
            if name not in keys:
                raise mapping.MappingError(
                    f"the data set has no text {name!r}; it has {', '.join(sorted(keys)) or 'none'}"
                )
            self._texts.append(keys[name])
        both = {"train", "val"} <= set(shards)
        names = ("train", "val") if both else ("train",) if "train" in shards else tuple(shards)[:1]
        self._readers: dict[Path, Sequence] = {}
        self.splits = {
            name if both else "": [place for shard in shards[name] for place in self._places(*shard)] for name in names
        }

    def _places(self, path: Path, count: int) -> list[Place]:
        """The ``count`` episodes of a file; those that are not there, or of which that cannot be told, say so."""
        if ".." in path.parts or not path.is_relative_to(self._folder) or not 0 <= count <= MOST:
            raise RecordingError(
                f"{self._folder / 'dataset_info.json'}: {count} episodes in {path}; expected a file there"
            )
        fault = ""
        try:
            if "array_record" in path.name:
                found = [Place(path, number) for number in range(self._open(path))]
            else:
                found = [Place(path, *place) for place in tfrecord.places(path)]
        except tfrecord.Cut as error:
            fault, found = str(error), [Place(path, *place) for place in error.found]
        said = f"{path} has {len(found)} episodes; dataset_info.json says {count}"
        if len(found) > count:
            return [Place(path, number, fault=said) for number in range(count)]
        return found + [Place(path, number, fault=fault or said) for number in range(len(found), count)]

    def _open(self, path: Path) -> int:
        from array_record.python import array_record_data_source

        if not path.is_file():
            raise tfrecord.Cut(f"{path} is {'no file' if path.exists() else 'missing'}", [])
        try:
            self._readers[path] = array_record_data_source.ArrayRecordDataSource([str(path)])
            return len(self._readers[path])
        except (ValueError, RuntimeError, LookupError) as error:
            raise tfrecord.Cut(f"{path} cannot be read: {' '.join(str(error).split())[:200]}", []) from error

    def check(
        self,
        fields: Sequence[str],
        cameras: Sequence[str],
        jobs: Sequence[Job] | None = None,
        on_error: str = "fail",
    ) -> Faults:
        """What was found on opening; the rest is told by reading."""
        faults = Faults(on_error)
        for job, place in chosen(self.splits, jobs).items():
            if place.fault:
                faults.add(job, RecordingError(place.fault))
        return faults

    def task_of(self, episode: Place) -> str:
        return self._instructions(self._features(episode), str(episode))[0]

    def _features(self, episode: Place) -> Mapping:
        try:
            return tf_example_pb2.Example.FromString(self._record(episode)).features.feature
        except message.DecodeError as error:
            raise RecordingError(f"{episode} is damaged: {error}") from error

    def _record(self, episode: Place) -> bytes:
        if episode.fault:
            raise RecordingError(episode.fault)
        if episode.length is not None:
            return tfrecord.read(episode.file, episode.at, episode.length)
        try:
            return self._readers[episode.file][episode.at]
        except (RuntimeError, LookupError, ValueError) as error:
            raise RecordingError(f"{episode} is damaged: {' '.join(str(error).split())[:200]}") from error

    def _instructions(self, features: Mapping, name: str) -> tuple[str, ...]:
        texts = []
        for key in self._texts:
            try:
                said = sorted(filter(None, {v.decode().strip() for v in set(features[key].bytes_list.value)}))
            except UnicodeDecodeError as error:
                raise RecordingError(f"{name}: the instruction is no text in UTF-8: {error.object[:80]!r}") from error
            if len(said) > 1:
                raise RecordingError(
                    f"{name}: {key} changes within the episode: {', '.join(map(repr, said[:3]))}; expected one instruction"
                )
            texts += said
        if not texts:
            raise RecordingError(f"{name} has no instruction in {', '.join(self._texts)}")
        return tuple(dict.fromkeys(texts))

    def fingerprint(self, episode: Place, fields: Sequence[str], cameras: Sequence[str]) -> str:
        return fingerprint(self._texts, [self.widths[field] for field in fields], self._record(episode))

    def read(self, episode: Place, fields: Sequence[str]) -> RecordedEpisode:
        features, name = self._features(episode), str(episode)
        arrays = {}
        for field in fields:
            feature = features[STEPS + field]
            values = np.array(feature.float_list.value or feature.int64_list.value, np.float64)
            if values.size % self.widths[field] or not values.size:
                raise RecordingError(
                    f"{name}: {field} has {values.size} numbers; expected {self.widths[field]} in a step"
                )
            arrays[field] = values.reshape(-1, self.widths[field])
        lengths = {field: len(values) for field, values in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise RecordingError(
                f"{name}: fields differ in length: {', '.join(f'{k} {v}' for k, v in lengths.items())}"
            )

        def pictures(camera: str, rows: np.ndarray) -> Iterator[bytes]:
            found = features[STEPS + camera].bytes_list.value
            if len(found) != next(iter(lengths.values())):
                raise RecordingError(f"{name}: {camera} has {len(found)} pictures; there are {next(iter(lengths.values()))} "
                                     "steps")  # fmt: skip
            yield from (found[row] for row in rows.tolist())

        return RecordedEpisode(name, self._instructions(features, name), arrays, pictures)


def _folder(path: Path) -> Path:
    """Where dataset_info.json is: the folder itself, or the one version beneath it."""
    if not path.is_dir():
        raise RecordingError(f"there is no folder {path}; RLDS data are read from this machine")
    found = [path] if (path / "dataset_info.json").is_file() else [p.parent for p in path.glob("*/dataset_info.json")]
    if len(found) != 1:
        choice = f"has {', '.join(sorted(p.name for p in found))}; name one" if found else "has no dataset_info.json"
        raise RecordingError(f"{path} {choice}")
    return found[0]


def _check_classes(values: object, path: Path) -> None:
    """That no class is named but TFDS' own: what is named there is imported."""
    for value in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
        _check_classes(value, path)
    for key in ("pythonClassName", "type"):
        name = values.get(key) if isinstance(values, dict) else None
        if isinstance(name, str) and "." in name and not name.startswith("tensorflow_datasets."):
            raise RecordingError(f"{path}: {key} is {metadata.shown(name)}; expected a class of tensorflow_datasets")


def _sorted(features: Mapping, prefix: str) -> tuple[dict[str, int], dict[str, Any], set[str]]:
    """Fields by what they hold: {numbers: how many in a step}, {pictures: see ``episode_checks.odd_field``}, texts."""
    numbers, pictures, texts = {}, {}, set()
    for name, feature in features.items():
        path = prefix + name
        if isinstance(feature, tfds.features.FeaturesDict):
            inner = _sorted(feature, f"{path}/")
            numbers, pictures, texts = numbers | inner[0], pictures | inner[1], texts | inner[2]
        elif isinstance(feature, tfds.features.Image):
            about = (np.dtype(feature.np_dtype).name, feature.shape[-1])
            pictures[path] = episode_checks.odd_field(path, *about, isinstance(feature, tfds.features.LabeledImage))
        elif isinstance(feature, tfds.features.Tensor):
            kind, stored = (np.dtype(about.np_dtype).kind for about in (feature, feature.get_serialized_info()))
            if kind not in NUMBERS and feature.shape == ():
                texts.add(path)
            elif stored in NUMBERS and all(feature.shape):  # others are numbers pressed into bytes
                numbers[path] = math.prod(feature.shape)
    return numbers, pictures, texts


class Rlds(RecordedSource):
    """TFDS data sets whose records are episodes."""

    def read_mapping(self, name: str) -> dict:
        return read_mapping(name)

    def open_files(self, settings: RecordedSettings) -> RldsFiles:
        return open_files(settings)
