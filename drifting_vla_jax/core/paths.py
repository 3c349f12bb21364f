"""Paths as people write them, in flags, configuration keys and environment variables: expanded, or refused in one line."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path

BUCKETS = ("gs", "gcs", "s3", "s3a", "r2", "az", "abfs", "abfss", "wasb", "wasbs", "oss", "hdfs", "dbfs")
ADDRESSES = ("hf", "http", "https", "ftp", "ssh", "sftp", "file")
NAME_BYTES, PATH_BYTES = 255, 4095  # what file systems and kernels take

# One slash is enough where the scheme is known: pathlib makes gs:/bucket of gs://bucket.
_SCHEME = re.compile(rf"(?i:(?P<scheme>{'|'.join((*BUCKETS, *ADDRESSES))}):/|(?P<other>[a-z][a-z0-9+.-]+)://)")
_HUB = re.compile(r"(?:hf:/+|https?:/+huggingface\.co/)(?:models/|datasets/)?(?P<id>[\w.-]+/[\w.-]+)(?:/tree/main)?/*")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}?|(?P<plain>[A-Za-z_]\w*))")
_OTHER_HOST = re.compile(r"[\w.-]+@[\w.-]+:")


class PathError(ValueError):
    """A path that cannot be meant; the message says what came, what was expected, what to do."""


def user_path(text: str | os.PathLike, hub: bool = False) -> str:
    """The path on this machine that someone's text means.

    ``~``, ``~user``, ``$VAR``, ``${VAR}`` and ``file://`` are expanded; doubled and trailing slashes go. Nothing is looked
    up on the disk.

    Args:
      text: as it was written.
      hub: an id of the Hugging Face hub will do as well; of hf://OWNER/NAME the id is returned.

    Raises:
      PathError: empty, in a bucket, on another machine, of an unset variable or an unknown user, too long, unprintable.
    """
    given = os.fspath(text)
    if not given.strip():
        raise PathError(f"{given!r} is no path; it is empty")
    control = next((c for c in given if ord(c) < 32 or ord(c) == 127), None)
    if control is not None:
        ends = " (a script with Windows line ends?)" if control == "\r" else ""
        raise PathError(f"{given!r} has the character {control!r}{ends}, which is in no path")
    if given[0] == given[-1] and given[0] in "\"'" and len(given) > 1:
        raise PathError(f"{given!r} has quotation marks in it; leave them out")
    path = _VARIABLE.sub(lambda match: _variable(match, given), given)
    if found := hub and _HUB.fullmatch(path):
        return found["id"]
    path = _home(_local(path, given), given)
    if path != path.strip() and not os.path.lexists(path):
        raise PathError(f"{given!r} begins or ends with a space; leave it out")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise PathError(f"{given!r} has characters that no name of a file has: {error.reason}") from error
    if b"\0" in encoded:
        raise PathError(f"{given!r} has a zero byte, which is in no path")
    longest = max(map(len, encoded.split(b"/")))
    if longest > NAME_BYTES or len(encoded) > PATH_BYTES:
        raise PathError(
            f"{_short(given)} is too long: {len(encoded)} bytes, its longest name {longest}; there may be {PATH_BYTES} and "
            f"{NAME_BYTES}"
        )
    plain = str(Path(re.sub(r"^//+", "/", path)))
    return f"./{plain}" if plain.startswith("~") else plain  # so that it means the same when it is read again


def _variable(match: re.Match, given: str) -> str:
    name = match["plain"] or match["braced"]
    if match["plain"] is None and (not re.fullmatch(r"[A-Za-z_]\w*", name) or not match[0].endswith("}")):
        raise PathError(f"{given!r} has {match[0]!r}; expected $NAME or ${{NAME}} of an environment variable")
    if not os.environ.get(name):
        state = "empty" if name in os.environ else "not set"
        raise PathError(f"{given!r}: the environment variable {name} is {state}; export it, or write the path out")
    return os.environ[name]


def _local(path: str, given: str) -> str:
    """The path without file://, if it is one on this machine."""
    if _OTHER_HOST.match(path) and not os.path.lexists(path):
        raise PathError(f"{given!r} is on another machine; copy it here, or mount it, and name that folder")
    found = _SCHEME.match(path)
    if not found:
        return path
    scheme = (found["scheme"] or found["other"]).lower()
    if scheme == "file":
        here = re.fullmatch(r"file:(?://(?:localhost)?)?(/.*)", path, re.IGNORECASE)
        if not here or here[1].startswith("//"):
            raise PathError(f"{given!r} names no file of this machine; expected file:///FOLDER/NAME")
        return urllib.parse.unquote(here[1])
    if scheme == "hf":
        raise PathError(
            f"{given!r} is on the Hugging Face hub, where a path on this machine is expected; download it first"
        )
    if scheme in BUCKETS:
        raise PathError(f"{given!r} is in a bucket; expected a path on this machine: copy it here, or mount the bucket")
    raise PathError(f"{given!r} is an address of {scheme}://; expected a path on this machine: download it first")


def _home(path: str, given: str) -> str:
    expanded = os.path.expanduser(path)
    if expanded.startswith("~") and not os.path.lexists(path):
        who = path.split("/")[0]
        said = "this user has no home folder" if who == "~" else f"there is no user {who[1:]!r}"
        raise PathError(f"{given!r}: {said}; write the path out (a name that begins with ~ is ./~...)")
    return expanded


def writable(path: str | os.PathLike, folder: bool = True) -> Path:
    """The path, if a folder (or file) can be made there or is there and can be written to; makes nothing.

    To be asked before hours of work whose results go there.

    Raises:
      PathError: it is of the other kind, a link to nothing, within a file, or where this user may not write.
    """
    place = Path(path)
    kind, other = ("folder", "file") if folder else ("file", "folder")
    try:
        if place.exists() and place.is_dir() != folder:
            raise PathError(f"{place} is a {other}; expected a {kind}, or nothing yet")
        there = place if folder else place.parent
        while not os.path.lexists(there):
            there = there.parent
        if there.is_symlink() and not there.exists():
            raise PathError(f"{there} is a link to {os.readlink(there)}, which is not there")
        if place.is_symlink() and not place.exists():
            raise PathError(f"{place} is a link to {os.readlink(place)}, which is not there")
        if not there.is_dir():
            raise PathError(f"{there} is a file, so {place} cannot be made")
    except OSError as error:
        raise PathError(f"{place} cannot be written: {error.strerror}") from error
    if not os.access(there, os.W_OK | os.X_OK):
        raise PathError(f"{place} cannot be written: {there} is read-only or belongs to somebody else")
    return place


def _short(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:40]}...{text[-10:]}")
