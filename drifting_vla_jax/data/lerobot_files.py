"""LeRobot's data sets on disk, versions 2.0, 2.1 and 3.0: what they hold, and one episode at a time. Extra: [lerobot].

    meta/info.json             codebase_version, fps, features {field: {dtype, shape, names}}, splits, data_path, video_path
    2.x  meta/tasks.jsonl, meta/episodes.jsonl
         data/chunk-000/episode_000007.parquet             rows of one episode
         videos/chunk-000/<camera>/episode_000007.mp4
    3.0  meta/tasks.parquet, meta/episodes/chunk-000/file-000.parquet: where each episode is
         data/chunk-000/file-000.parquet                   rows of many
         videos/<camera>/chunk-000/file-000.mp4            pictures of many, one episode after the other

A row has the fields of ``features`` and timestamp (s), frame_index, episode_index, index, task_index. Pictures are videos, or
encoded files in a column {bytes, path}.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drifting_vla_jax.data import hub, video
from drifting_vla_jax.data.recordings import Recording, RecordingError

VERSIONS = ("v2.0", "v2.1", "v3.0")
NUMBERS = ("float", "int", "uint", "bool")
OFF_TIME = 0.1  # of a row: how far a timestamp may be from frame_index / fps
TABLES = 4  # files kept in memory, of many episodes each


@dataclass(frozen=True)
class Episode:
    """Where an episode is.

    Attributes:
      index, length: its number, and of its rows.
      tasks: its instructions.
      data: file of its rows.
      videos: {camera: (file, seconds at which it begins)}.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: dict[str, tuple[Path, float]] = field(default_factory=dict)


def fetch(name: str, cameras: Sequence[str] | None = None) -> Path:
    """The folder ``name``, or the hub's repository: its meta/ alone, or all that is needed for these cameras.

    Raises:
      hub.HubError: neither is there.
    """
    wanted = ["meta/*"] if cameras is None else ["meta/*", "data/*", *(f"videos/*{camera}/*" for camera in cameras)]
    return hub.folder(name, wanted, kind="dataset")


def _read_table(path: Path, columns: tuple[str, ...] | None = None):
    """A parquet file's columns (all of them if not named); raises RecordingError."""
    pa, parquet = video.library("pyarrow"), video.library("pyarrow.parquet")
    if not path.is_file():
        raise RecordingError(f"{path} is missing")
    try:
        return parquet.read_table(path, columns=columns and list(columns))
    except (pa.ArrowException, OSError) as error:
        raise RecordingError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _read_lines(path: Path) -> list[dict]:
    if not path.is_file():
        raise RecordingError(f"{path} is missing")
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise RecordingError(f"{path} is damaged: {error}") from error


class LeRobotFiles:
    """A data set of LeRobot, see ``recordings.Format``.

    Raises (on opening):
      RecordingError: a file of meta/ is missing, damaged or says too little; another version.
      hub.HubError: there is no such folder or repository.
    """

    def __init__(self, name: str):
        self._name, self._root = name, fetch(name)
        self._table = functools.lru_cache(TABLES)(_read_table)
        path = self._root / "meta" / "info.json"
        if not path.is_file():
            raise RecordingError(f"{path} is missing; {name} is no data set of LeRobot")
        try:
            self.info = hub.read_json(path)
            self._version, self.hz = self.info["codebase_version"], float(self.info["fps"])
            features = self.info["features"]
            self.cameras = [key for key, about in features.items() if about["dtype"] in ("video", "image")]
            self._videos = {key for key in self.cameras if features[key]["dtype"] == "video"}
            numbers = {key: about for key, about in features.items() if about["dtype"].startswith(NUMBERS)}
            self.widths = {key: math.prod(about["shape"]) for key, about in numbers.items()}
            self.names = {key: found for key, about in numbers.items() if (found := _flat(about.get("names")))}
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordingError(f"{path} says too little: {type(error).__name__} {error}") from error
        if self._version not in VERSIONS:
            raise RecordingError(f"{path}: codebase_version {self._version}; expected one of {', '.join(VERSIONS)}")
        try:
            self._tasks = self._read_tasks()
            episodes = self._episodes_3() if self._version == "v3.0" else self._episodes_2()
        except (KeyError, TypeError) as error:
            raise RecordingError(f"{self._root / 'meta'} says too little about tasks or episodes: {error}") from error
        self.splits = self._divide({episode.index: episode for episode in episodes})

    def _read_tasks(self) -> dict[int, str]:
        meta = self._root / "meta"
        if self._version != "v3.0":
            return {line["task_index"]: line["task"] for line in _read_lines(meta / "tasks.jsonl")}
        table = _read_table(meta / "tasks.parquet")
        text = next(name for name in table.column_names if name != "task_index")  # pandas' index, named or not
        return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist()))

    def _episodes_2(self) -> Iterator[Episode]:
        for line in _read_lines(self._root / "meta" / "episodes.jsonl"):
            index = line["episode_index"]
            where = {"episode_index": index, "episode_chunk": index // self.info["chunks_size"]}
            videos = {key: (self._path("video_path", video_key=key, **where), 0.0) for key in self._videos}
            yield Episode(index, line["length"], tuple(line["tasks"]), self._path("data_path", **where), videos)

    def _episodes_3(self) -> Iterator[Episode]:
        files = sorted((self._root / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise RecordingError(f"{self._root / 'meta' / 'episodes'} has no parquet files")
        video_columns = [f"videos/{key}/{part}" for key in self._videos
                         for part in ("chunk_index", "file_index", "from_timestamp")]  # fmt: skip
        columns = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index", *video_columns]
        for path in files:
            for row in _read_table(path, tuple(columns)).to_pylist():
                videos = {
                    key: (self._path("video_path", video_key=key, **_place(row, f"videos/{key}")),
                          row[f"videos/{key}/from_timestamp"])
                    for key in self._videos
                }  # fmt: skip
                data = self._path("data_path", **_place(row, "data"))
                yield Episode(row["episode_index"], row["length"], tuple(row["tasks"]), data, videos)

    def _path(self, kind: str, **where: object) -> Path:
        """A file of the data set; a template that leads out of its folder is refused."""
        path = self._root / self.info[kind].format(**where)
        if ".." in path.parts or not path.is_relative_to(self._root):
            raise RecordingError(f"meta/info.json: {kind} {self.info[kind]!r} leads outside")
        return path

    def _divide(self, episodes: dict[int, Episode]) -> dict[str, list[Episode]]:
        """By meta/info.json's splits ("first:after") if both train and val are there."""
        splits = self.info.get("splits") or {}
        if not {"train", "val"} <= set(splits):
            return {"": [episodes[index] for index in sorted(episodes)]}
        divided = {}
        for name in ("train", "val"):
            first, after = (int(number) for number in splits[name].split(":"))
            divided[name] = [episodes[index] for index in sorted(episodes) if first <= index < after]
        return divided

    def task_of(self, episode: Episode) -> str:
        return episode.tasks[0] if episode.tasks else ""

    def check(self, fields: Sequence[str], cameras: Sequence[str]) -> None:
        """Every row's numbers and times, every video's header; fetches what is not here yet.

        Raises:
          RecordingError: something is missing, damaged, of another length or rate.
        """
        root = fetch(self._name, cameras)
        if root != self._root:
            raise RecordingError(f"{self._name} changed on the hub while it was fetched; start again")
        needed: dict[tuple[str, Path], float] = {}
        for episode in (episode for episodes in self.splits.values() for episode in episodes):
            self._rows(episode, fields)
            for camera in self._videos & set(cameras):
                path, start = episode.videos[camera]
                end = round(start * self.hz) + episode.length
                needed[camera, path] = max(needed.get((camera, path), 0), end)
        for (_, path), count in needed.items():
            found = video.header(path)
            if found.fps and abs(found.fps / self.hz - 1) > 0.01:
                raise RecordingError(f"{path} has {found.fps:g} pictures per second; meta/info.json says {self.hz:g}")
            if found.count and (found.count < count or (found.count > count and self._version != "v3.0")):
                raise RecordingError(f"{path} has {found.count} pictures; its episodes have {count} rows")

    def _rows(self, episode: Episode, fields: Sequence[str]) -> tuple[dict[str, np.ndarray], str]:
        """The numbers of an episode, {field: [t, ...]}, and its instruction."""
        own = ("timestamp", "frame_index", "episode_index", "task_index")
        table = self._slice(episode, tuple(dict.fromkeys((*fields, *own))))
        where = f"episode {episode.index} in {episode.data}"
        if table.num_rows != episode.length or not episode.length:
            raise RecordingError(f"{where} has {table.num_rows} rows; meta/ says {episode.length}")
        frames = table["frame_index"].to_numpy()
        if not np.array_equal(frames, np.arange(len(frames))):
            raise RecordingError(f"{where}: frame_index is not 0 to {len(frames) - 1}")
        away = np.abs(table["timestamp"].to_numpy() * self.hz - frames)
        if away.max() > OFF_TIME:
            row = int(np.flatnonzero(away > OFF_TIME)[0])
            raise RecordingError(
                f"{where}: row {row} is at {table['timestamp'][row].as_py():.3f} s; at the {self.hz:g} rows per second of "
                f"meta/info.json it would be at {row / self.hz:.3f} s"
            )
        tasks = np.unique(table["task_index"].to_numpy()).tolist()
        if len(tasks) != 1 or tasks[0] not in self._tasks:
            raise RecordingError(f"{where}: task_index is {tasks}; expected one, and one that meta/ names")
        return {name: _numbers(table[name], self.widths[name], f"{where}: {name}") for name in fields}, self._tasks[
            tasks[0]
        ]

    def _slice(self, episode: Episode, columns: tuple[str, ...]):
        """An episode's rows of a file."""
        table = self._table(episode.data, columns)
        at = np.flatnonzero(table["episode_index"].to_numpy() == episode.index)
        if len(at) and at[-1] - at[0] + 1 != len(at):
            raise RecordingError(f"{episode.data}: rows of episode {episode.index} are not together")
        return table.slice(int(at[0]) if len(at) else 0, len(at))

    def read(self, episode: Episode, fields: Sequence[str]) -> Recording:
        arrays, instruction = self._rows(episode, fields)

        def pictures(camera: str, rows: np.ndarray) -> Iterator[np.ndarray | bytes]:
            if camera in self._videos:
                path, start = episode.videos[camera]
                yield from video.pictures(path, self.hz, start, rows)
                return
            column = self._slice(episode, (camera, "episode_index"))[camera]
            for row in rows.tolist():
                data = (column[row].as_py() or {}).get("bytes")
                if not data:
                    raise RecordingError(f"{episode.data}: {camera} of row {row} is not in the file")
                yield data

        return Recording(f"episode {episode.index}", (instruction,), arrays, pictures)


def _numbers(column, width: int, where: str) -> np.ndarray:
    """float64 [t, width] of a column of numbers or of lists of them."""
    rows, values = len(column), column.combine_chunks()
    lists = video.library("pyarrow.types")
    while lists.is_list(values.type) or lists.is_fixed_size_list(values.type) or lists.is_large_list(values.type):
        lengths = set(values.value_lengths().to_pylist())
        if len(lengths) > 1:
            raise RecordingError(
                f"{where} has rows of {', '.join(sorted(map(str, lengths)))} numbers; expected {width}"
            )
        values = values.flatten()
    if len(values) != rows * width:
        raise RecordingError(f"{where} has {len(values)} numbers in {rows} rows; expected {width} in each")
    return values.to_numpy(zero_copy_only=False).astype(np.float64).reshape(rows, width)


def _place(row: dict, prefix: str) -> dict[str, int]:
    return {key: row[f"{prefix}/{key}"] for key in ("chunk_index", "file_index")}


def _flat(names: object) -> list[str] | None:
    """What a feature calls its numbers: a list, or {group: list}; anything else is none."""
    if isinstance(names, dict) and len(names) == 1:
        (names,) = names.values()
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
