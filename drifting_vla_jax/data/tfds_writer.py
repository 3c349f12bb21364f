"""Episodes -> a TFDS data set: one record per time step, images still encoded, ArrayRecord files.

    OUT/demonstrations/1.0.0/
        demonstrations-{train,val}.array_record-*   the records (any TFDS user can read them)
        low_dim-{train,val}.npz                     state, actions, episode, step, last of every record, in record order;
                                                    keyframe (the row of the next one) where the source knows them
        dataset_info.json, features.json
        metadata.json                               what ``About`` says; every episode with its length and "content", the
                                                    fingerprint of all that is in it; "fingerprint" of the whole data set

The split val is missing where no episode is held out.

Records are single steps, so horizon, stride and keyframes are choices at load time; their order is the episodes' order,
so row i of ``low_dim`` is record i and a window costs one image decode per view. Neither writing nor reading needs tensorflow.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import dataclasses
import datetime
import importlib.metadata
import multiprocessing
import platform
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from drifting_vla_jax import __version__
from drifting_vla_jax.core.episode import Episode
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.data.sources.base import About
from drifting_vla_jax.envs.registry import ENVIRONMENTS, info

NAME, VERSION = "demonstrations", "1.0.0"


class Demonstrations(tfds.core.GeneratorBasedBuilder):
    """TFDS builder over episode files already on disk."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)
    pkg_dir_path = Path(__file__).parent  # TFDS looks here for citation files; there are none

    def __init__(self, *, splits: Mapping[str, Sequence[Path]], about: About, **kwargs):
        self._splits, self._about = splits, about
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        about, size = self._about, self._about.image_size
        features = {
            "images": {camera: tfds.features.Image(shape=(size, size, 3)) for camera in about.cameras},
            "state": tfds.features.Tensor(shape=(len(about.state_names),), dtype=np.float32),
            "action": tfds.features.Tensor(shape=(about.layout.dim,), dtype=np.float32),
            "episode": np.int64,
            "step": np.int64,
            "is_first": np.bool_,
            "is_last": np.bool_,
            "task": tfds.features.Text(),
            "variation": np.int64,
            "instructions": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Robot demonstrations, one record per time step. `action` is the ABSOLUTE target one step "
            f"ahead: {' '.join(about.layout.names)}",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(self._metadata()),
            disable_shuffling=True,
        )

    def _metadata(self) -> dict:
        episodes, instructions = {}, {}
        for split, paths in self._splits.items():
            rows = []
            for episode in map(Episode.load, paths):
                if episode.layout != self._about.layout:
                    raise ValueError(f"an episode of {episode.task} has actions of layout {episode.layout}")
                ids = [instructions.setdefault(text, len(instructions)) for text in episode.instructions]
                about = {"task": episode.task, "variation": episode.variation, "seed": episode.seed}
                rows.append(about | {"length": len(episode), "instructions": ids, "content": episode.fingerprint()})
            episodes[split] = rows
        contents = [[split, [row["content"] for row in rows]] for split, rows in episodes.items()]
        simulators = (package for name in ENVIRONMENTS for package in info(name).packages)
        packages = dict.fromkeys(("tensorflow-datasets", "numpy", *simulators))
        datasheet = {
            "made_by": f"drifting_vla_jax {__version__}",
            "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "packages": {name: v for name in packages if (v := _version(name))},
        }
        return {
            **dataclasses.asdict(self._about),
            "action_names": list(self._about.layout.names),
            "instructions": list(instructions),
            "episodes": episodes,
            "fingerprint": fingerprint(contents, list(self._about.state_names), self._about.control_hz),
            "datasheet": datasheet,
        }

    def _split_generators(self, dl_manager) -> dict:
        for split, paths in self._splits.items():
            np.savez(Path(self.data_dir) / f"low_dim-{split}.npz", **_low_dim(_without_images(paths)))
        return {split: self._generate_examples(paths) for split, paths in self._splits.items()}

    def _generate_examples(self, paths: Sequence[Path]) -> Iterator[tuple[int, dict]]:
        record = 0
        for index, episode in enumerate(map(Episode.load, paths)):
            for step in range(len(episode)):
                yield (
                    record,
                    {
                        "images": {camera: frames[step] for camera, frames in episode.images.items()},
                        "state": episode.state[step],
                        "action": episode.actions[step],
                        "episode": index,
                        "step": step,
                        "is_first": step == 0,
                        "is_last": step == len(episode) - 1,
                        "task": episode.task,
                        "variation": episode.variation,
                        "instructions": list(episode.instructions),
                    },
                )
                record += 1


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _without_images(paths: Sequence[Path]) -> Iterator[Episode]:
    return (Episode.load(path, images=False) for path in paths)


def _low_dim(episodes: Iterator[Episode]) -> dict[str, np.ndarray]:
    """The small arrays of every step: state [n, s], actions [n, k], episode [n], step [n], last [n] (a row number).

    ``keyframe`` [n] is there if every episode has keyframes: the row whose action is the next keyframe seen from a row.
    """
    columns: dict[str, list] = {"state": [], "actions": [], "episode": [], "step": [], "last": [], "keyframe": []}
    rows = 0
    for index, episode in enumerate(episodes):
        steps = len(episode)
        columns["state"].append(episode.state.astype(np.float32))
        columns["actions"].append(episode.actions.astype(np.float32))
        columns["episode"].append(np.full(steps, index))
        columns["step"].append(np.arange(steps))
        columns["last"].append(np.full(steps, rows + steps - 1))
        if episode.keyframes is not None:
            found = np.array(episode.keyframes)
            columns["keyframe"].append(rows + found[np.searchsorted(found, np.arange(steps))])
        rows += steps
    if len(columns["keyframe"]) < len(columns["last"]):
        del columns["keyframe"]
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def write(out: Path, splits: Mapping[str, Sequence[Path]], about: About) -> Path:
    """Writes the data set under ``out`` (atomically: TFDS renames a finished folder) and returns its folder.

    A split without episodes is left out: a data set may have none to validate on.

    In a process of its own, whose memory is free again afterwards; if there is too little, the caller can say so.

    Raises:
      ValueError: there is no episode to train on.
      FileExistsError: something lies where the data set is to be: TFDS would take it for this one.
      OSError: that process died.
    """
    if folder(out).exists():
        raise FileExistsError(f"{folder(out)} is there and no whole data set; move it away, or choose another --out")
    splits = {name: paths for name, paths in splits.items() if paths}
    if "train" not in splits:
        others = ", ".join(f"{len(paths)} for {name}" for name, paths in splits.items())
        raise ValueError(
            f"no episode to train on in {out} ({others or 'none at all'}); give more episodes or a smaller val_fraction"
        )
    silent = signal.signal, (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback after ours
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), *silent) as process:
        try:
            process.submit(_write, out, splits, about).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise OSError(
                f"the process that writes {folder(out)} died, perhaps for want of memory; start again: the episodes are there"
            ) from error
    return folder(out)


def _write(out: Path, splits: Mapping[str, Sequence[Path]], about: About) -> None:
    # Above a gigabyte TFDS sorts records through files of TensorFlow. Ours are in order: it would read all back at once.
    shuffle.MAX_MEM_BUFFER_SIZE = sys.maxsize
    Demonstrations(splits=splits, about=about, data_dir=str(out)).download_and_prepare()


def folder(out: Path) -> Path:
    """Where the data set of an output directory lives."""
    return Path(out) / NAME / VERSION
