"""A task's archive of demonstrations -> folders, without trusting the archive.

    <anything>/all_variations/episodes/episode<N>/<file>   ->   <folder>/all_variations/episodes/episode<N>/<file>

Every file is read to its end, which checks its CRC-32. An episode is unpacked beside its place and then moved there, so
what is in place is whole; beside its pickles lie their checksums, which ``rlbench_demos.load_pickle`` looks at every time.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from drifting_vla_jax.envs.rlbench.demos import CHECKSUMS

EPISODE = re.compile(r"(?:.*/)?all_variations/episodes/episode([0-9]{1,6})/([^/]+(?:/[^/]+)?)")
NEEDED = ("low_dim_obs.pkl", "variation_number.pkl", "variation_descriptions.pkl")
BLOCK = 4096  # bytes that a file takes on disk, at least; pictures are small


class ArchiveError(ValueError):
    """An archive that is damaged, incomplete or tries something."""


def episodes(archive: zipfile.ZipFile) -> dict[int, list[zipfile.ZipInfo]]:
    """The files of each episode by its number, ascending.

    Raises:
      ArchiveError: a link, a path that leads outside, a file twice, no episodes, or one without its pickles.
    """
    found: dict[int, dict[str, zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        name = info.filename
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ArchiveError(f"{name!r} is a symbolic link; this is no archive of demonstrations")
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name or ":" in name:
            raise ArchiveError(f"{name!r} leads outside; this is no archive of demonstrations")
        match = EPISODE.fullmatch(name)
        if match and not info.is_dir() and not any(part.startswith(".") for part in match.group(2).split("/")):
            files = found.setdefault(int(match.group(1)), {})
            if match.group(2) in files:
                raise ArchiveError(f"{name!r} is there twice")
            files[match.group(2)] = info
    if not found:
        raise ArchiveError("it holds no all_variations/episodes/episode<N>")
    for number, files in found.items():
        missing = [name for name in NEEDED if name not in files]
        if missing:
            raise ArchiveError(f"episode {number} lacks {', '.join(missing)}")
    return {number: list(found[number].values()) for number in sorted(found)}


def base(folder: Path) -> Path:
    """Where the episodes of a task's folder are."""
    return folder / "all_variations" / "episodes"


def unpack(path: Path, folder: Path, wanted: int) -> tuple[int, int]:
    """Unpacks the first ``wanted`` episodes (0: all) that are not in ``folder`` yet, or were unpacked there of another archive.

    Returns:
      How many episodes are there now, and how many the archive has.

    Raises:
      ArchiveError: see ``episodes``; or a file whose checksum is wrong.
      FileExistsError: an episode is there that is neither this archive's nor was unpacked by this function.
      OSError: the disk has too little room, or another problem of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = episodes(archive)
            chosen = dict(list(held.items())[: wanted or None])
            places = {number: base(folder) / f"episode{number}" for number in chosen}
            missing = {number: files for number, files in chosen.items() if not _is_there(places[number], files)}
            _check_room(
                base(folder), sum(-(-f.file_size // BLOCK) * BLOCK for files in missing.values() for f in files)
            )
            for number, files in missing.items():
                _unpack_episode(archive, files, places[number])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ArchiveError(f"it is damaged: {error}") from error
    return len(chosen), len(held)


def _is_there(place: Path, files: list[zipfile.ZipInfo]) -> bool:
    """Whether these very files are in place: by their sizes, and of pickles by the checksums of when they were unpacked."""
    if not place.is_dir():
        return False
    inside = {EPISODE.fullmatch(info.filename).group(2): info for info in files}
    same = all((place / name).is_file() and (place / name).stat().st_size == i.file_size for name, i in inside.items())
    listed = place / CHECKSUMS
    if listed.is_file():
        return same and json.loads(listed.read_text()) == {name: inside[name].CRC for name in NEEDED}
    if not same:
        raise FileExistsError(
            f"{place} is there and is not the episode of the archive; move it away, or choose another --out"
        )
    return True


def _unpack_episode(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], place: Path) -> None:
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    sums = {}
    for info in files:
        name = EPISODE.fullmatch(info.filename).group(2)
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, open(partial / name, "xb") as target:
            shutil.copyfileobj(source, target, 2**20)
        if name in NEEDED:
            sums[name] = info.CRC
    (partial / CHECKSUMS).write_text(json.dumps(sums))
    if place.is_dir():  # of another archive
        shutil.rmtree(place)
    partial.rename(place)


def _check_room(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > 0.98 * free:
        raise OSError(f"unpacking needs {needed / 1e9:.2f} GB in {folder}, {free / 1e9:.2f} GB are free")
