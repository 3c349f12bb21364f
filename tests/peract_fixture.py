"""Six small RLBench episodes in PerAct's format (tests/fixtures/peract.tar.xz), and hub archives made of them.

Procedural scenes, 12 steps, 64 px, five cameras, written by PerAct's own classes and its own generator: pickles name
rlbench's classes and numpy 1. ``expected.json`` says what RLBench itself reads there.
"""

import json
import tarfile
import zipfile
from functools import cache
from pathlib import Path

ARCHIVE = Path(__file__).parent / "fixtures" / "peract.tar.xz"
TASKS = ("close_jar", "open_drawer")


@cache
def expected() -> dict[str, dict]:
    """{"train/<task>/all_variations/episodes/episode<N>": values}."""
    with tarfile.open(ARCHIVE) as archive:
        return json.load(archive.extractfile("expected.json"))["episodes"]


def unpack(out: Path) -> Path:
    """OUT/train/<task>/all_variations/episodes/episode{0,1,2}."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(out, filter="data")
    return out


def make_zip(folder: Path, path: Path, extra: dict[str, bytes] | None = None) -> Path:
    """An archive as the hub has them: everything below ``folder`` under its name, and ``extra`` files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return path
