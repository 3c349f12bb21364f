"""Files that are whole or not there, and what names a content: the same name for the same content, wherever it lies.

What is kept from one start to the next (converted episodes, features, evaluations) is known again by its source's
fingerprint, never by a place, a number or a time: owners delete, reorder, replace and edit what lies there.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import os
import threading
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

_BYTES = 16  # of a fingerprint; two contents that share one are not to be expected


def write_atomically(path: Path, content: str | bytes) -> None:
    """A reader sees the old file or the new one, never half of it; also after the machine was switched off."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def set_aside(path: Path, reason: object) -> None:
    """Renames what lies at ``path`` to NAME.damaged (-2, -3, ...) and says so: for what only readers of reports need.

    Raises:
      OSError: it cannot be renamed.
    """
    names = (f"{path.name}.damaged{f'-{n}' if n > 1 else ''}" for n in itertools.count(1))
    to = next(kept for name in names if not os.path.lexists(kept := path.with_name(name)))
    path.rename(to)
    log.warning("%s is set aside as %s: %s", path, to.name, " ".join(str(reason).split()))


def fingerprint(*parts: object) -> str:
    """32 hex digits that name these parts in this order: arrays (type and shape too), bytes, or what JSON can say."""
    hasher = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        if isinstance(part, np.ndarray):
            about, data = f"{part.dtype} {part.shape}", np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        elif isinstance(part, bytes):
            about, data = "bytes", part
        else:
            about, data = "json", json.dumps(part, sort_keys=True).encode()
        hasher.update(f"{about} {len(data)}\n".encode())
        hasher.update(data)
    return hasher.hexdigest()


def file_fingerprint(path: Path) -> str:
    """32 hex digits that name a file's content; a file that has not changed since is not read again by this process.

    Raises:
      OSError: it is missing or cannot be read.
    """
    about = path.stat()
    return _file_fingerprint(str(path), about.st_ino, about.st_size, about.st_mtime_ns)


@functools.lru_cache(4096)
def _file_fingerprint(path: str, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_BYTES)).hexdigest()
