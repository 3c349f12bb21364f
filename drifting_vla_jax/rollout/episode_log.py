"""What an evaluation leaves on disk while it runs: its settings and one JSON line per episode.

    OUT/settings.json        what was evaluated and how; episodes of other settings are never mixed in
    OUT/episodes*.jsonl      {"task", "variation", "seed", "success", "latched", "steps", "outcome", ...} per line

``success`` is true or false where the episode says something about the policy, null where it does not (the simulator
crashed, the server was lost): those are counted apart and run again by the next start.

A process may be killed at any moment: a line is on disk entirely (fsync) or is cut off at the end of the file, where
readers ignore it and the next writer removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.folder_lock import InUseError, owned
from drifting_vla_jax.core.metadata import read_dict

WHOSE = ("checkpoint_step", "config_hash", "objective", "evaluations_per_chunk")  # settings that name the policy
LATER = ("weights", "dataset")  # others that do; evaluations of before they were written down go on without
Key = tuple  # (task, variation, seed): what identifies an episode


def episode_key(episode: Mapping[str, Any]) -> Key:
    """(task, variation, seed) of a line."""
    return episode["task"], episode["variation"], episode["seed"]


class EpisodeLog:
    """Appends episodes to one .jsonl file: ``with EpisodeLog(path) as log: log.append(line)``.

    Raises (on opening):
      ValueError: another process is writing this file; which one.
    """

    def __init__(self, path: Path):
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(owned(path.parent, path.name))
            except InUseError as error:
                raise ValueError(f"another worker is writing: {error} or --worker") from error
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            held.callback(os.close, self._file)
            _drop_torn_line(path)
            self._held = held.pop_all()

    def append(self, episode: Mapping[str, Any]) -> None:
        """Writes one line, on disk when this returns."""
        line = json.dumps(episode, allow_nan=False).encode() + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"only {written} of {len(line)} bytes of an episode were written; is the disk full?")
        os.fsync(self._file)

    def __enter__(self) -> EpisodeLog:
        return self

    def __exit__(self, *_) -> None:
        self._held.close()


def _drop_torn_line(path: Path) -> None:
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    if complete < len(data):
        os.truncate(path, complete)


def read_episodes(path: Path) -> list[dict]:
    """Every complete line of a .jsonl file, in order; no file is no episodes; a cut-off last line is ignored.

    Raises:
      ValueError: a line inside the file is damaged.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    return _decode(data[: data.rfind(b"\n") + 1], path)


def _decode(lines: bytes, path: Path) -> list[dict]:
    episodes = []
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            episodes.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is damaged ({error}); delete that line to go on") from error
    return episodes


class EpisodeReader:
    """Follows every .jsonl file of a folder while others write them.

    Attributes:
      episodes: by key, as far as read: a scored one wins over one to run again, then the later one.
    """

    def __init__(self, out: Path):
        self._out = out
        self._read: dict[tuple[str, int], int] = {}  # (name, inode) -> bytes
        self.episodes: dict[Key, dict] = {}

    def update(self) -> list[dict]:
        """Reads what was written since the last call and returns it.

        Raises:
          ValueError: a line inside a file is damaged.
        """
        new = []
        for path in sorted(self._out.glob("episodes*.jsonl")):
            with open(path, "rb") as file:
                identity = path.name, os.fstat(file.fileno()).st_ino
                file.seek(self._read.get(identity, 0))
                data = file.read()
            complete = data[: data.rfind(b"\n") + 1]
            new += _decode(complete, path)
            self._read[identity] = self._read.get(identity, 0) + len(complete)
        for episode in new:
            before = self.episodes.get(episode_key(episode))
            if before is None or before["success"] is None or episode["success"] is not None:
                self.episodes[episode_key(episode)] = episode
        return new


def read_all_episodes(out: Path) -> dict[Key, dict]:
    """Episodes of every .jsonl file in a folder, see ``EpisodeReader``."""
    reader = EpisodeReader(out)
    reader.update()
    return reader.episodes


def write_episodes(path: Path, episodes: Iterable[Mapping[str, Any]]) -> None:
    """Writes a whole .jsonl file atomically."""
    write_atomically(path, "".join(json.dumps(e, allow_nan=False) + "\n" for e in episodes))


def check_same(out: Path, settings: Mapping[str, Any]) -> None:
    """That the evaluation in a folder, if there is one, has none of these settings otherwise.

    Raises:
      ValueError: it has; the first difference is named.
    """
    path = out / "settings.json"
    there = json.loads(path.read_text()) if path.exists() and read_all_episodes(out) else {}
    for name in sorted(there.keys() & settings):
        if there[name] != settings[name]:
            raise _other(out, name, there[name], settings[name])


def _other(out: Path, name: str, there: Any, here: Any) -> ValueError:
    return ValueError(
        f"{out} holds an evaluation with {name} {there!r}, this one has {here!r}; choose another folder or delete that one"
    )


def claim_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Makes the folder this evaluation's, or checks that it already is; one without episodes is free to take.

    Raises:
      ValueError: it holds episodes of another policy or other settings; the first difference is named.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "settings.json"
    if not path.exists() or not read_all_episodes(out):
        write_atomically(path, json.dumps(settings, indent=2) + "\n")
        return
    there = read_dict(path, {})
    for name in sorted({*there, *settings}):
        if there.get(name) != settings.get(name) and (name in there or name not in LATER):
            raise _other(out, name, there.get(name), settings.get(name))
