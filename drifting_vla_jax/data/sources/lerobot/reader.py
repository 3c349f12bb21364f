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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from drifting_vla_jax.core import hub
from drifting_vla_jax.core.files import file_fingerprint, fingerprint
from drifting_vla_jax.data import video
from drifting_vla_jax.data.sources.lerobot import parquet as tables
from drifting_vla_jax.data.sources.lerobot.index import EpisodeLocation, Index, misplaced
from drifting_vla_jax.data.sources.recorded.base import Faults, Job, RecordedEpisode, RecordingError, chosen

OFF_TIME = 0.1  # of a row: how far a timestamp may be from frame_index / fps
TABLES = 4  # files kept in memory, of many episodes each


def fetch(name: str, cameras: Sequence[str] | None = None) -> Path:
    """The folder ``name``, or the hub's repository: its meta/ alone, or all that is needed for these cameras.

    Raises:
      hub.HubError: neither is there.
    """
    wanted = ["meta/*"] if cameras is None else ["meta/*", "data/*", *(f"videos/*{camera}/*" for camera in cameras)]
    return hub.folder(name, wanted, kind="dataset")


class LeRobotFiles:
    """A data set of LeRobot, see ``base.Format``.

    Raises (on opening):
      RecordingError: a file of meta/ is missing, damaged or says too little; another version.
      hub.HubError: there is no such folder or repository.
    """

    def __init__(self, name: str):
        self._name, self._root = name, fetch(name)
        self.revision = "" if Path(name).is_dir() else self._root.name
        self._table = functools.lru_cache(TABLES)(tables.read)
        self._index = Index(self._root)
        self.hz, self.cameras, self.widths = self._index.hz, self._index.cameras, self._index.widths
        self.names, self.info = self._index.names, self._index.info.values
        self.odd = self._index.odd
        self.splits = self._index.split()

    def task_of(self, episode: EpisodeLocation) -> str:
        if episode.fault and not episode.tasks:
            raise RecordingError(episode.fault)
        return episode.tasks[0] if episode.tasks else ""

    def check(
        self,
        fields: Sequence[str],
        cameras: Sequence[str],
        jobs: Sequence[Job] | None = None,
        on_error: str = "fail",
    ) -> Faults:
        """Every row's numbers and times, every video's header; fetches what is not here yet."""
        root = fetch(self._name, cameras)
        if root != self._root:
            raise RecordingError(f"{self._name} changed on the hub while it was fetched; start again")
        faults, wanted = Faults(on_error), chosen(self.splits, jobs)
        for job, episode in wanted.items():
            try:
                self._rows(episode, fields)
            except RecordingError as error:
                faults.add(job, error)
        for camera in cameras:
            if camera in self._index.videos:
                self._check_pictures(camera, {job: e for job, e in wanted.items() if job not in faults}, faults)
        return faults

    def _check_pictures(self, camera: str, jobs: Mapping[Job, EpisodeLocation], faults: Faults) -> None:
        """That the pictures of these episodes are where meta/ has them."""
        index = self._index
        counts: dict[Path, int] = {}  # rows of the episodes whose pictures are in a file
        for episode in index.whole:
            file = episode.videos[camera].file
            counts[file] = counts.get(file, 0) + episode.length
        joined = index.version == "v3.0"
        wrong = misplaced(index.whole, camera, self.hz) if joined else {}
        exact = not joined or (index.complete and len(index.whole) == len(index.episodes))
        headers = functools.lru_cache(len(counts))(video.header)
        for job, episode in jobs.items():
            clip = episode.videos[camera]
            try:
                if episode.index in wrong:
                    raise RecordingError(wrong[episode.index])
                found, last = headers(clip.file), round(clip.start * self.hz) + episode.length
                if found.pixels.startswith(("gray1", "gray9")):
                    raise RecordingError(
                        f"{clip.file} has pixels of {found.pixels}: a depth map? Expected colors of 8 bits"
                    )
                if found.fps and abs(found.fps / self.hz - 1) > 0.01:
                    raise RecordingError(
                        f"{clip.file} has {found.fps:g} pictures per second; meta/info.json says {self.hz:g}"
                    )
                if found.count and (found.count < last or (exact and found.count > counts[clip.file])):
                    rows = max(last, counts[clip.file])
                    raise RecordingError(f"{clip.file} has {found.count} pictures; its episodes have {rows} rows")
            except RecordingError as error:
                faults.add(job, error)

    def _rows(self, episode: EpisodeLocation, fields: Sequence[str]) -> tuple[dict[str, np.ndarray], str]:
        """The numbers of an episode, {field: [t, ...]}, and its instruction."""
        if episode.fault:
            raise RecordingError(episode.fault)
        own = ("timestamp", "frame_index", "episode_index", "task_index")
        table = self._slice(episode, tuple(dict.fromkeys((*fields, *own))))
        where = f"episode {episode.index} in {episode.data}"
        if table.num_rows != episode.length:
            raise RecordingError(f"{where} has {table.num_rows} rows; meta/ says {episode.length}")
        frames = tables.integers(table["frame_index"], f"{where}: frame_index")
        if not np.array_equal(frames, np.arange(len(frames))):
            raise RecordingError(f"{where}: frame_index is not 0 to {len(frames) - 1}")
        times = tables.numbers(table["timestamp"], 1, f"{where}: timestamp")[:, 0]
        # float32 as it is written: after hours its steps are no small part of a row
        off = ~(np.abs(times * self.hz - frames) <= OFF_TIME + self.hz * np.spacing(times.astype(np.float32)))
        if off.any():
            row = int(np.flatnonzero(off)[0])
            raise RecordingError(
                f"{where}: row {row} is at {times[row]:.3f} s; at the {self.hz:g} rows per second of meta/info.json it would "
                f"be at {row / self.hz:.3f} s"
            )
        tasks = np.unique(tables.integers(table["task_index"], f"{where}: task_index")).tolist()
        if len(tasks) != 1 or tasks[0] not in self._index.tasks:
            raise RecordingError(f"{where}: task_index is {tasks}; expected one, and one that meta/ names")
        arrays = {name: tables.numbers(table[name], self.widths[name], f"{where}: {name}") for name in fields}
        return arrays, self._index.tasks[tasks[0]]

    def _slice(self, episode: EpisodeLocation, columns: tuple[str, ...]):
        """An episode's rows of a file."""
        table = self._table(episode.data, columns)
        numbers = tables.integers(table["episode_index"], f"{episode.data}: episode_index")
        at = np.flatnonzero(numbers == episode.index)
        if len(at) and at[-1] - at[0] + 1 != len(at):
            raise RecordingError(f"{episode.data}: rows of episode {episode.index} are not together")
        return table.slice(int(at[0]) if len(at) else 0, len(at))

    def fingerprint(self, episode: EpisodeLocation, fields: Sequence[str], cameras: Sequence[str]) -> str:
        arrays, instruction = self._rows(episode, fields)
        parts: list = [instruction, *arrays.values()]
        for camera in cameras:
            if camera in self._index.videos:
                clip = episode.videos[camera]
                try:
                    parts += [clip.start, file_fingerprint(clip.file)]
                except OSError as error:
                    raise RecordingError(f"{clip.file} cannot be read: {error.strerror}") from error
            else:
                pictures = self._slice(episode, (camera, "episode_index"))[camera].to_pylist()
                found = [each.get("bytes") if isinstance(each, dict) else each for each in pictures]
                parts += [each if isinstance(each, bytes) else str(each) for each in found]
        return fingerprint(*parts)

    def read(self, episode: EpisodeLocation, fields: Sequence[str]) -> RecordedEpisode:
        arrays, instruction = self._rows(episode, fields)

        def pictures(camera: str, rows: np.ndarray) -> Iterator[np.ndarray | bytes]:
            if camera in self._index.videos:
                clip = episode.videos[camera]
                yield from video.pictures(clip.file, self.hz, clip.start, rows)
                return
            column = self._slice(episode, (camera, "episode_index"))[camera]
            for row in rows.tolist():
                found = column[row].as_py()
                data = found.get("bytes") if isinstance(found, dict) else found
                if not data or not isinstance(data, bytes):
                    raise RecordingError(f"{episode.data}: {camera} of row {row} is not in the file")
                yield data

        return RecordedEpisode(f"episode {episode.index}", (instruction,), arrays, pictures)
