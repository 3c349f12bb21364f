"""meta/ of a LeRobot data set: what it holds and where each episode is. See ``reader.py`` for the layout.

An episode whose entry is odd is kept with what is wrong with it, for it may be one that nobody asks for; what concerns the
whole set is refused on opening.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drifting_vla_jax.core import metadata
from drifting_vla_jax.core.metadata import Fields
from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.lerobot import parquet as tables
from drifting_vla_jax.data.sources.recorded import names
from drifting_vla_jax.data.sources.recorded.base import RecordingError

VERSIONS = ("v2.0", "v2.1", "v3.0")
CONVERT = "LeRobot's own scripts convert one to the next (convert_dataset_v21_to_v30 and its sisters)"
NUMBERS = ("float", "int", "uint", "bool")
OFF_SPAN = 0.5  # of a picture: how far an episode may begin from where the one before it ends
TASK_COLUMNS = ("task", "__index_level_0__")  # where the instructions are if pandas' own metadata do not say


@dataclass(frozen=True)
class Clip:
    """The pictures of an episode and a camera: a file, and the seconds in it from the first to after the last."""

    file: Path
    start: float
    stop: float


@dataclass(frozen=True)
class EpisodeLocation:
    """Where an episode is.

    Attributes:
      index, length: its number, and of its rows.
      tasks: its instructions.
      data: file of its rows.
      videos: {camera: its pictures}.
      fault: what is wrong with its entry; but for the instructions the rest is empty then.
    """

    index: int
    length: int = 0
    tasks: tuple[str, ...] = ()
    data: Path = Path()
    videos: dict[str, Clip] = field(default_factory=dict)
    fault: str = ""


class Index:
    """Reads meta/ of the folder ``root``, but for its statistics.

    Attributes:
      info: content of meta/info.json.
      hz: rows per second.
      cameras: fields with pictures; ``videos``: those of them that are in video files.
      widths: {field: numbers per row}; ``names``: {field: what each is}, where that is said.
      odd: see ``base.Format``.
      tasks: {number: instruction}.
      episodes: by number, ascending.
      complete: whether it names every episode that there is, by its own count.

    Raises (on creation):
      RecordingError: a file is missing, damaged or says too little; another version.
    """

    def __init__(self, root: Path):
        self._root, path = root, root / "meta" / "info.json"
        if not path.exists():
            raise RecordingError(f"{path} is missing; {root} is no data set of LeRobot")
        self.info = metadata.read_json(path, RecordingError)
        self.version = self.info.text("codebase_version")
        if self.version not in VERSIONS:
            raise RecordingError(
                f"{path}: codebase_version {self.version}; expected one of {', '.join(VERSIONS)}; {CONVERT}"
            )
        self.hz = self.info.number("fps", above=0)
        about = dict(self.info.mapping("features").items())
        kinds = {name: feature.text("dtype") for name, feature in about.items()}
        self.cameras = [name for name, kind in kinds.items() if kind in ("video", "image")]
        self.videos = {name for name, kind in kinds.items() if kind == "video"}
        self.odd = {name: found for name in self.cameras if (found := _no_colors(name, about[name]))}
        given = {name: about[name] for name, kind in kinds.items() if kind.startswith(NUMBERS)}
        self.widths = {name: math.prod(feature.integers("shape")) for name, feature in given.items()}
        called = {name: names.flat(feature.get("names", None), self.widths[name]) for name, feature in given.items()}
        self.names = {name: found for name, found in called.items() if found}
        self.tasks = self._read_tasks()
        episodes: dict[int, EpisodeLocation] = {}
        for episode in self._episodes_3() if self.version == "v3.0" else self._episodes_2():
            if episode.index in episodes:
                raise RecordingError(f"{root / 'meta'} names episode {episode.index} twice")
            episodes[episode.index] = episode
        self.episodes = [episodes[index] for index in sorted(episodes)]
        count = len(episodes)
        self.complete = self.info.integer("total_episodes", count) == count == max(episodes, default=-1) + 1

    def _read_tasks(self) -> dict[int, str]:
        meta = self._root / "meta"
        if self.version == "v3.0":
            path = meta / "tasks.parquet"
            table = tables.read(path)
            text = _task_column(table, path)
            rows = tables.rows(tables.read(path, ("task_index", text)), path)
        else:
            text, rows = "task", metadata.read_lines(meta / "tasks.jsonl", RecordingError)
        found: dict[int, str] = {}
        for row in rows:
            number = row.integer("task_index")
            if number in found:
                raise row.fault(f"task_index {number} is there twice")
            found[number] = row.text(text)
        return found

    def _episodes_2(self) -> Iterator[EpisodeLocation]:
        data, pictures = self._template("data_path"), self._template("video_path", bool(self.videos))
        chunk = self.info.integer("chunks_size", least=1)
        for row in metadata.read_lines(self._root / "meta" / "episodes.jsonl", RecordingError):
            index = row.integer("episode_index")
            where = {"episode_index": index, "episode_chunk": index // chunk}
            try:
                length = row.integer("length", least=1)
                videos = {key: Clip(self._path(pictures, video_key=key, **where), 0.0, length / self.hz)
                          for key in self.videos}  # fmt: skip
                yield EpisodeLocation(index, length, row.texts("tasks"), self._path(data, **where), videos)
            except RecordingError as error:
                yield EpisodeLocation(index, tasks=_tasks(row), fault=str(error))

    def _episodes_3(self) -> Iterator[EpisodeLocation]:
        folder = self._root / "meta" / "episodes"
        files = sorted(folder.glob("*/*.parquet"))
        if not files:
            raise RecordingError(f"{folder} has no parquet files")
        data, pictures = self._template("data_path"), self._template("video_path", bool(self.videos))
        parts = ("chunk_index", "file_index", "from_timestamp")
        columns = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        columns += [f"videos/{key}/{part}" for key in self.videos for part in parts]
        optional = ["dataset_from_index", "dataset_to_index", *(f"videos/{key}/to_timestamp" for key in self.videos)]
        for path in files:
            for row in tables.rows(tables.read(path, columns, optional), path):
                index = row.integer("episode_index")
                try:
                    length = row.integer("length", least=1)
                    _check_rows(row, length)
                    videos = {key: self._clip(row, key, length, pictures) for key in self.videos}
                    file = self._path(data, **_place(row, "data"))
                    yield EpisodeLocation(index, length, row.texts("tasks"), file, videos)
                except RecordingError as error:
                    yield EpisodeLocation(index, tasks=_tasks(row), fault=str(error))

    def _clip(self, row: Fields, camera: str, length: int, template: str) -> Clip:
        start = row.number(f"videos/{camera}/from_timestamp", least=0)
        stop = row.number(f"videos/{camera}/to_timestamp", start + length / self.hz, least=0)
        return Clip(self._path(template, video_key=camera, **_place(row, f"videos/{camera}")), start, stop)

    def _template(self, kind: str, needed: bool = True) -> str:
        """A template of paths, made of known fields alone; empty if it is not needed."""
        if not needed:
            return ""
        text = self.info.text(kind)
        keys = ("chunk_index", "file_index") if self.version == "v3.0" else ("episode_chunk", "episode_index")
        keys += ("video_key",) if kind == "video_path" else ()
        expected = f"a path with some of {', '.join(f'{{{key}}}' for key in keys)}"
        try:
            fields = [
                (key, form, conversion)
                for _, key, form, conversion in string.Formatter().parse(text)
                if key is not None
            ]
        except ValueError as error:
            raise self.info.odd(kind, expected) from error
        for key, form, conversion in fields:
            if key not in keys or conversion or not re.fullmatch("" if key == "video_key" else r"(0?\d)?d?", form):
                raise self.info.odd(kind, expected)
        if kind == "video_path" and len(self.videos) > 1 and "video_key" not in [key for key, *_ in fields]:
            raise self.info.odd(kind, "{video_key} in it, for there are several cameras")
        return text

    def _path(self, template: str, **where: object) -> Path:
        """A file of the data set; one outside of its folder is refused."""
        path = self._root / template.format(**where)
        if ".." in path.parts or not path.is_relative_to(self._root) or "\0" in str(path):
            raise RecordingError(f"{self.info.where}: {template!r} leads outside")
        return path

    @property
    def whole(self) -> list[EpisodeLocation]:
        """Those whose entries say where they are."""
        return [episode for episode in self.episodes if not episode.fault]

    def split(self) -> dict[str, list[EpisodeLocation]]:
        """By meta/info.json's splits ("first:after") if both train and val are there.

        Raises:
          RecordingError: they overlap, or name episodes that there are not.
        """
        splits = self.info.mapping("splits", {})
        if not ("train" in splits and "val" in splits):
            return {"": self.episodes}
        ranges, end = {}, self.episodes[-1].index + 1 if self.episodes else 0
        for name in ("train", "val"):
            found = re.fullmatch(r"(\d{1,15}):(\d{1,15})", splits.text(name), re.ASCII)
            if not found or not int(found[1]) <= int(found[2]) <= end:
                raise splits.odd(name, f'"first:after" of the episodes 0:{end}')
            ranges[name] = range(int(found[1]), int(found[2]))
        shared = range(max(r.start for r in ranges.values()), min(r.stop for r in ranges.values()))
        if shared:
            raise splits.fault(f"episode {shared.start} is in train and in val")
        return {name: [episode for episode in self.episodes if episode.index in own] for name, own in ranges.items()}


def misplaced(episodes: Sequence[EpisodeLocation], camera: str, hz: float) -> dict[int, str]:
    """{episode: what is wrong with where its pictures are}: in a file episodes follow each other without gap or overlap.

    An episode that was left out of meta/ may leave a gap.
    """
    faults: dict[int, str] = {}
    before: EpisodeLocation | None = None
    ends: list[float] = []  # where the next one may begin: as the one before says itself, and as its length says
    indices = {episode.index for episode in episodes}
    for episode in sorted(episodes, key=lambda e: (e.videos[camera].file, e.index)):
        clip = episode.videos[camera]
        start, stop, file = clip.start * hz, clip.stop * hz, clip.file
        if before is None or before.videos[camera].file != file:
            ends = [0.0] if episode.index - 1 in indices or not episode.index else [start]
        elif before.index + 1 != episode.index:
            ends = [max(start, *ends)]
        if min(abs(start - end) for end in ends) > OFF_SPAN:
            faults[episode.index] = (
                f"episode {episode.index}: meta/episodes has its pictures in {file} from {start / hz:.3f} s on; expected "
                f"{ends[-1] / hz:.3f} s, where those before it end"
            )
            ends = [end + episode.length for end in ends]
        else:
            ends = [stop, start + episode.length]
            if abs(stop - start - episode.length) > OFF_SPAN:
                faults[episode.index] = (
                    f"episode {episode.index}: meta/episodes has {stop - start:g} of the pictures in {file} for its "
                    f"{episode.length} rows"
                )
        before = episode
    return faults


def _check_rows(row: Fields, length: int) -> None:
    """That the rows of an episode, where they are numbered, are as many as it is long."""
    first, after = row.integer("dataset_from_index", None), row.integer("dataset_to_index", None)
    if first is not None and after is not None and after - first != length:
        raise row.fault(f"dataset_from_index {first} to dataset_to_index {after} are not its {length} rows")


def _task_column(table, path: Path) -> str:
    """Which column of meta/tasks.parquet has the instructions: pandas' index, named or not, or the only texts."""
    texts = [name for name in table.column_names if tables.holds_text(table[name])]
    said = (table.schema.metadata or {}).get(b"pandas", b"{}")
    try:
        index = json.loads(said).get("index_columns") or []
    except (ValueError, AttributeError, RecursionError):  # a remark in the file's margin, which others leave out
        index = []
    for name in itertools.chain(
        index if isinstance(index, list) else [], TASK_COLUMNS, texts if len(texts) == 1 else []
    ):
        if name in texts:
            return name
    raise RecordingError(f"{path} has columns {', '.join(table.column_names) or 'none'}; expected task_index and task")


def _tasks(row: Fields) -> tuple[str, ...]:
    """The instructions of an entry in which something else is odd, if it has any."""
    try:
        return row.texts("tasks", ())
    except RecordingError:
        return ()


def _place(row: Fields, prefix: str) -> dict[str, int]:
    return {key: row.integer(f"{prefix}/{key}") for key in ("chunk_index", "file_index")}


def _no_colors(name: str, feature: Fields) -> tuple[str, bool] | None:
    """See ``episode_checks.odd_field``."""
    shape, axes = feature.get("shape", None), feature.get("names", None)
    channels = None
    if isinstance(shape, list) and len(shape) == 2:
        channels = 1
    elif isinstance(shape, list) and len(shape) == 3:
        known = isinstance(axes, list) and len(axes) == 3
        at = [i for i, axis in enumerate(axes) if str(axis).lower() in ("c", "channel", "channels")] if known else []
        ends = [shape[i] for i in at or (2, 0) if shape[i] in (1, 2, 3, 4)]
        channels = ends[0] if ends else None
    about = feature.get("info", None) or feature.get("video_info", None) or {}
    about = about if isinstance(about, dict) else {}
    depth = any(about.get(key) is True for key in ("video.is_depth_map", "is_depth_map"))
    bits = re.fullmatch(r"gray(\d+)(le|be)?", str(about.get("video.pix_fmt", "")))
    return episode_checks.odd_field(name, f"{bits[1]} bits" if bits else "uint8", channels, depth)
