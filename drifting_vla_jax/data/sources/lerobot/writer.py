"""The tables and meta/ of a LeRobot data set 3.0, written one episode at a time. See ``reader.py`` for the layout.

data/            a row per time step
meta/episodes/   a row per episode: which rows and which part of which videos are its own, and its statistics
meta/tasks       a row per instruction, which is pandas' index
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drifting_vla_jax.data import video
from drifting_vla_jax.data.sources.lerobot import stats

VERSION = "v3.0"
CHUNK = 1000  # files in a folder
DATA_MB, VIDEO_MB = 100, 200  # a file that is larger gets no further episode
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
OWN = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def place(number: int) -> dict[str, int]:
    """Folder and file of the ``number``-th file."""
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


def video_feature(side: int, fps: int) -> dict:
    """What info.json says of a camera."""
    about = {
        "video.height": side,
        "video.width": side,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": [side, side, 3], "names": ["height", "width", "channels"], "info": about}


class Tables:
    """Rows of a data set under ``root``: ``add`` each episode, then ``finish``.

    Attributes:
      episodes, rows: how many there are so far.
    """

    def __init__(self, root: Path, state_names: Sequence[str], action_names: Sequence[str]):
        self._root, self._pa = root, video.library("pyarrow")
        self._names = {"observation.state": list(state_names), "action": list(action_names)}
        self._tasks: dict[str, int] = {}
        self._about: list[dict] = []
        self._stats: dict[str, list[dict]] = {}
        self._pending: list = []
        self._file = self.rows = 0

    @property
    def episodes(self) -> int:
        return len(self._about)

    def add(
        self,
        state: np.ndarray,
        actions: np.ndarray,
        fps: int,
        task: str,
        videos: dict[str, object],
        seen: dict[str, dict],
    ) -> None:
        """An episode of t rows.

        Args:
          state, actions: float32 [t, s] and [t, k].
          videos: where its pictures are, as meta/episodes has it.
          seen: its pictures' statistics.
        """
        count = len(state)
        task_index = self._tasks.setdefault(task, len(self._tasks))
        columns = {
            "observation.state": state,
            "action": actions,
            "timestamp": (np.arange(count) / fps).astype(np.float32),
            "frame_index": np.arange(count),
            "episode_index": np.full(count, self.episodes),
            "index": self.rows + np.arange(count),
            "task_index": np.full(count, task_index),
        }
        if sum(table.nbytes for table in self._pending) > DATA_MB * 2**20:
            self._flush()
        self._pending.append(self._pa.table({name: self._column(values) for name, values in columns.items()}))
        found = {name: stats.of_numbers(values) for name, values in columns.items()} | seen
        for name, values in found.items():
            self._stats.setdefault(name, []).append(values)
        self._about.append(
            {"episode_index": self.episodes, "tasks": [task], "length": count}
            | {f"data/{key}": value for key, value in place(self._file).items()}
            | {"dataset_from_index": self.rows, "dataset_to_index": self.rows + count}
            | videos
            | {f"stats/{name}/{key}": value.tolist() for name, values in found.items() for key, value in values.items()}
            | {f"meta/episodes/{key}": value for key, value in place(0).items()}
        )
        self.rows += count

    def _column(self, values: np.ndarray):
        if values.ndim == 1:
            return self._pa.array(values)
        return self._pa.FixedSizeListArray.from_arrays(self._pa.array(values.reshape(-1)), values.shape[1])

    def _flush(self) -> None:
        self._write(self._pa.concat_tables(self._pending), DATA_PATH.format(**place(self._file)))
        self._pending, self._file = [], self._file + 1

    def _write(self, table, path: str) -> None:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        video.library("pyarrow.parquet").write_table(table, self._root / path)

    def finish(self, fps: int, pictures: dict[str, dict], splits: dict[str, str]) -> dict:
        """Writes what is left, and meta/; returns info.json's contents."""
        self._flush()
        self._write(self._pa.Table.from_pylist(self._about), EPISODES_PATH.format(**place(0)))
        self._write(self._task_table(), "meta/tasks.parquet")
        together = {name: {key: value.tolist() for key, value in stats.joined(parts).items()}
                    for name, parts in self._stats.items()}  # fmt: skip
        numbers = {
            name: {"dtype": "float32", "shape": [len(names)], "names": names} for name, names in self._names.items()
        }
        own = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in OWN.items()}
        info = {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": self.episodes,
            "total_frames": self.rows,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK,
            "data_files_size_in_mb": DATA_MB,
            "video_files_size_in_mb": VIDEO_MB,
            "fps": fps,
            "splits": splits,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": {**pictures, **numbers, **own},
        }
        for name, content in (("stats.json", together), ("info.json", info)):
            (self._root / "meta" / name).write_text(json.dumps(content, indent=4))
        return info

    def _task_table(self):
        """Numbers with the instructions as pandas' index, said in pandas' own metadata; pandas itself is not needed."""
        table = self._pa.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
        about = {
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [{"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
                        for name, kind, numpy in columns],
            "pandas_version": "2.2.0",
        }  # fmt: skip
        return table.replace_schema_metadata({"pandas": json.dumps(about)})
