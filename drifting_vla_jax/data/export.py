"""Command line: one of our data sets, or what a policy did -> LeRobot's format, version 3.0 (extra: [lerobot]); or files.

    python -m drifting_vla_jax.data.export --format=lerobot --data=data/mine --out=data/mine-lerobot
    python -m drifting_vla_jax.data.export --format=lerobot --data=runs/mine/eval/ID --out=data/rollouts-lerobot
    python -m drifting_vla_jax.data.export --format=episodes --data=data/mine --out=data/mine-episodes

    OUT/meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
    OUT/data/chunk-000/file-000.parquet                              observation.state, action, timestamp, indices
    OUT/videos/observation.images.<camera>/chunk-000/file-000.mp4    H.264; one episode after the other

Training episodes come first, then those for validation (``splits`` of info.json). ``action`` is the absolute target one step
ahead, as here. An episode keeps the plainest of its paraphrases: LeRobot has one task per row. Pictures lose what H.264 takes
(``--crf``); states and actions lose nothing. ``data.build --source=lerobot --mapping=drifting_vla`` reads it back; of two
arms or joints a mapping does. A folder of an evaluation or an arm, run with --record, has episodes of its own
(``data/sources/rollouts.py``): all of them are training episodes.

``episodes`` takes a data set apart into OUT/rollouts/SPLIT-NUMBER.npz, a file per episode with its pictures as they are
(``core/episode.py``): what ``robot --driver=replay`` plays.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from drifting_vla_jax.core import cli
from drifting_vla_jax.core.action_layout import END_EFFECTOR
from drifting_vla_jax.core.episode import ABOUT, ROLLOUTS, Episode, decode_image
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.data import video
from drifting_vla_jax.data.dataset import DataSet, Split
from drifting_vla_jax.data.sources import rollouts
from drifting_vla_jax.data.sources.lerobot import stats
from drifting_vla_jax.data.sources.lerobot import writer as meta

FLAGS = flags.FLAGS
IMAGES = "observation.images."


def define_flags() -> None:
    flags.DEFINE_enum("format", None, ["lerobot", "episodes"], "what to write", required=True)
    cli.define_path("data", None, "directory of a data set of ours, or of recorded episodes", required=True)
    cli.define_path("out", None, "directory to write, which is not there yet", writes="folder", required=True)
    flags.DEFINE_bool("only_success", False, "of recorded episodes: leave out those that failed or nobody judged")
    flags.DEFINE_integer("crf", 18, "lerobot: quality of the videos, 0 best .. 51 worst", 0, 51)


class Videos:
    """One camera's files, a new one when the last has grown large: ``begin``, ``add`` ..., ``end`` of each episode."""

    def __init__(self, root: Path, camera: str, fps: int, side: int, crf: int):
        self._root, self._key, self._fps, self._side, self._crf = root, IMAGES + camera, fps, side, crf
        self._number, self._writer = -1, None

    def begin(self) -> dict[str, object]:
        """Where the episode that begins now is, as LeRobot's episodes have it."""
        if self._writer is None or self._writer.size > meta.VIDEO_MB * 2**20:
            self.close()
            self._number += 1
            path = self._root / meta.VIDEO_PATH.format(video_key=self._key, **meta.place(self._number))
            self._writer = video.Writer(path, self._fps, self._side, self._crf)
        where = meta.place(self._number) | {"from_timestamp": self._writer.count / self._fps}
        return {f"videos/{self._key}/{name}": value for name, value in where.items()}

    def add(self, image: np.ndarray) -> None:
        self._writer.add(image)

    def end(self) -> dict[str, object]:
        return {f"videos/{self._key}/to_timestamp": self._writer.count / self._fps}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@dataclass(frozen=True)
class Shown:
    """One episode to write: its task's words, state [t, s], actions [t, k], and each row's views uint8 [v, size, size, 3]."""

    task: str
    state: np.ndarray
    actions: np.ndarray
    images: Iterator[np.ndarray]


@dataclass(frozen=True)
class Contents:
    """What there is to write, by split; ``about`` has cameras, image_size, control_hz, state_names and action_names."""

    about: Mapping
    splits: Mapping[str, list[Callable[[], Shown]]]


def contents(data: Path, only_success: bool) -> Contents:
    """A data set of ours, or a folder of recorded episodes.

    Raises:
      FileNotFoundError: it is neither.
      ValueError: ``only_success`` of demonstrations, or of recorded episodes none of which is one.
    """
    recorded = rollouts.find(data)
    if recorded is not None:
        chosen = recorded.of(only_success=only_success)
        cameras = tuple(recorded.about["cameras"])
        about = recorded.about | {"action_names": END_EFFECTOR.names}
        return Contents(about, {"train": [lambda p=path: _rollout(p, cameras) for path, _ in chosen]})
    if only_success:
        raise ValueError(f"{data} has no recorded episodes, and --only_success is about nothing else")
    dataset = DataSet(data, DataSet(data, ()).metadata["cameras"])
    splits = {name: dataset.split(name) for name in dataset.metadata["episodes"]}
    return Contents(dataset.metadata, {
        name: [lambda s=split, r=rows: _demonstration(dataset, s, r) for rows in episodes(split)]
        for name, split in splits.items()
    })  # fmt: skip


def episodes(split: Split) -> Iterator[np.ndarray]:
    """The rows of each episode."""
    first = 0
    for last in np.unique(split.last).tolist():
        yield np.arange(first, last + 1)
        first = last + 1


def _demonstration(dataset: DataSet, split: Split, rows: np.ndarray) -> Shown:
    task = dataset.instructions[split.prompt_ids[split.prompts[rows[0], 0]]]
    return Shown(task, split.state[rows], split.actions[rows], (split.images(row) for row in rows.tolist()))


def _rollout(path: Path, cameras: tuple[str, ...]) -> Shown:
    episode = Episode.load(path)
    views = zip(*(episode.images[camera] for camera in cameras))
    images = (np.stack([decode_image(encoded) for encoded in view]) for view in views)
    return Shown(episode.instructions[0], episode.state, episode.actions, images)


def export(data: Path, out: Path, crf: int, only_success: bool = False) -> dict:
    """Writes the data set and returns its info.json.

    Raises:
      ValueError: something is there already; a rate that is no whole number, or pictures of an odd size; see ``contents``.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; choose another --out")
    found = contents(data, only_success)
    about = found.about
    fps, side = round(about["control_hz"]), about["image_size"]
    if fps != about["control_hz"]:
        raise ValueError(f"{data} has {about['control_hz']:g} steps per second; LeRobot counts them in whole numbers")
    if side % 2:
        raise ValueError(f"pictures of {data} have {side} px; a video (yuv420p) needs an even number")
    video.library("av"), video.library("pyarrow")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    cameras = {camera: Videos(partial, camera, fps, side, crf) for camera in about["cameras"]}
    writer = meta.Tables(partial, about["state_names"], about["action_names"])
    ends, total = {}, sum(len(split) for split in found.splits.values())
    with tqdm(total=total, desc="episodes", unit="ep", dynamic_ncols=True) as bar:
        for name, split in found.splits.items():
            for opened in split:
                episode = opened()
                where, seen = _film(episode, cameras)
                writer.add(episode.state, episode.actions, fps, episode.task, where, seen)
                bar.update()
            ends[name] = writer.episodes
    for videos in cameras.values():
        videos.close()
    firsts = dict(zip(ends, [0, *ends.values()]))
    pictures = {IMAGES + camera: meta.video_feature(side, fps) for camera in cameras}
    info = writer.finish(fps, pictures, {name: f"{firsts[name]}:{end}" for name, end in ends.items()})
    partial.rename(out)
    return info


def _film(episode: Shown, cameras: dict[str, Videos]) -> tuple[dict[str, object], dict[str, dict]]:
    """Adds an episode's pictures to the videos; where they are, and their statistics."""
    where = {key: value for videos in cameras.values() for key, value in videos.begin().items()}
    sampled, looked = set(stats.sample(len(episode.state)).tolist()), {camera: [] for camera in cameras}
    for step, views in enumerate(episode.images):
        for (camera, videos), image in zip(cameras.items(), views):
            videos.add(image)
            if step in sampled:
                looked[camera].append(image)
    for videos in cameras.values():
        where |= videos.end()
    return where, {IMAGES + camera: stats.of_pictures(np.stack(images)) for camera, images in looked.items()}


def export_episodes(data: Path, out: Path) -> int:
    """Writes a data set's episodes as files; how many there are.

    Raises:
      ValueError: something is there already.
      FileNotFoundError: there is no data set.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; choose another --out")
    dataset = DataSet(data, DataSet(data, ()).metadata["cameras"])
    about = dataset.metadata
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder, count = partial / ROLLOUTS, 0
    folder.mkdir(parents=True)
    shared = {name: about[name] for name in ("cameras", "image_size", "state_names", "control_hz")}
    (folder / ABOUT).write_text(json.dumps(shared | {"environment": about["source"]}, indent=1))
    for name, told in about["episodes"].items():
        split = dataset.split(name)
        for number, (rows, each) in enumerate(zip(episodes(split), told, strict=True)):
            pictures = [split.pictures[row] for row in rows.tolist()]
            Episode(
                task=each["task"],
                variation=each["variation"],
                seed=each["seed"],
                instructions=tuple(dataset.instructions[i] for i in each["instructions"]),
                images={camera: [seen[camera] for seen in pictures] for camera in dataset.cameras},
                state=split.state[rows],
                actions=split.actions[rows],
            ).save(folder / f"{name}-{number:06d}.npz")
            count += 1
    partial.rename(out)
    return count


def main(_) -> None:
    out = Path(FLAGS.out)
    if FLAGS.format == "episodes":
        if FLAGS.only_success or FLAGS["crf"].present:
            raise ValueError("--only_success and --crf are for --format=lerobot")
        with owned(out.parent, out.name):
            count = export_episodes(Path(FLAGS.data), out)
        print(f"{count} episodes in {out}/{ROLLOUTS}")
        return
    with owned(out.parent, out.name):
        info = export(Path(FLAGS.data), out, FLAGS.crf, FLAGS.only_success)
    print(f"{info['total_episodes']} episodes, {info['total_frames']} rows in {FLAGS.out}; LeRobotDataset('NAME', "
          f"root='{FLAGS.out}') opens it")  # fmt: skip


if __name__ == "__main__":
    define_flags()
    cli.run(main)
