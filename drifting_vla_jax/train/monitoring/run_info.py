"""DIR/run.json: what a later reader wants to know of a run that neither its configuration nor its metrics say.

    {"starts": [{"started", "step", "code": {"commit", "dirty"} or null, "packages": {name: version}, "python", "host",
                 "devices": {"kind", "count", "processes"}, "data": {"source", "episodes": {split: n}, "steps": {split: n}},
                 "evaluations_per_chunk", "ended", "error"}, ...]}

One entry per start, the last one is the newest; times are UTC, ISO 8601. ``ended`` comes with the end, ``error`` is then ""
or the exception's one line; a process that was killed leaves neither.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import jax
from jax.sharding import Mesh

from drifting_vla_jax.core.files import set_aside, write_atomically
from drifting_vla_jax.core.metadata import MetadataError, read_json
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.mixture import Mixture

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[3]
PACKAGES = ("drifting-vla-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunInfo:
    """``with record.running(step):`` around the training. Process 0 writes, the others do nothing."""

    def __init__(self, workdir: Path, mesh: Mesh, dataset: DataSet | Mixture, evaluations_per_chunk: int = 1):
        self._path, self._mesh, self._dataset = Path(workdir) / "run.json", mesh, dataset
        self._evaluations_per_chunk = evaluations_per_chunk

    @contextlib.contextmanager
    def running(self, step: int) -> Iterator[dict]:
        """One entry for a start after ``step`` steps, which is handed out; its end is noted however it comes."""
        if jax.process_index() > 0:
            yield {}
            return
        entry = {
            "started": _now(),
            "step": step,
            "code": code_version(ROOT),
            "packages": {name: version for name in PACKAGES if (version := _version(name))},
            "python": platform.python_version(),
            "host": platform.node(),
            "devices": {
                "kind": self._mesh.devices.flat[0].device_kind,
                "count": self._mesh.devices.size,
                "processes": jax.process_count(),
            },
            "data": _data(self._dataset),
            "evaluations_per_chunk": self._evaluations_per_chunk,
        }
        starts = self._before()
        self._write([*starts, entry])
        error = ""
        try:
            yield entry
        except BaseException as raised:
            error = " ".join(f"{type(raised).__name__}: {raised}".split())
            raise
        finally:
            self._write([*starts, entry | {"ended": _now(), "error": error}])

    def _before(self) -> list[dict]:
        """The entries of earlier starts. Only reports read them: what is damaged is set aside and stops nothing."""
        if not os.path.lexists(self._path):
            return []
        try:
            starts = read_json(self._path).get("starts")
            if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
                raise MetadataError("starts is no list of objects")
        except (MetadataError, OSError) as error:
            with contextlib.suppress(OSError):  # then it cannot be written either, which is said
                set_aside(self._path, error)
            return []
        return starts

    def _write(self, starts: list[dict]) -> None:
        try:
            write_atomically(self._path, json.dumps({"starts": starts}, indent=2) + "\n")
        except OSError as error:
            log.warning("%s is not written (%s); reports will not know of this start", self._path, error)


def code_version(root: Path) -> dict | None:
    """Commit of the checkout at ``root``, and whether its tracked files differ from it; None where there is no checkout."""

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root.resolve():  # installed somewhere inside another's checkout
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit, or not ours to read
        return None


def _data(dataset: DataSet | Mixture) -> dict:
    splits = dataset.metadata["episodes"]
    return {
        "source": dataset.metadata["source"],
        "episodes": {name: len(episodes) for name, episodes in splits.items()},
        "steps": {name: sum(e["length"] for e in episodes) for name, episodes in splits.items()},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
