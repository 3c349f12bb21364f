"""TFRecord files without tensorflow: records one after the other, each between two checksums.

    uint64 n | uint32 checksum of these 8 bytes | n bytes | uint32 checksum of them          little-endian

A checksum is CRC-32C turned right by 15 bits, plus 0xa282ead8 (format of tensorflow's core/lib/io/record_writer).
"""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c

from drifting_vla_jax.data.sources.recorded.base import RecordingError

HEADER, FOOTER = 12, 4


class Cut(RecordingError):
    """A file that is missing or damaged; ``found``: its records before that, as ``places`` gives them."""

    def __init__(self, message: str, found: list[tuple[int, int]]):
        super().__init__(message)
        self.found = found


def masked(data: bytes) -> int:
    """The checksum that stands in the file."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def places(path: Path) -> list[tuple[int, int]]:
    """Where each record begins and how long it is; nothing but the lengths is read.

    Raises:
      Cut: the file is missing, cut, or no TFRecord file.
    """
    if not path.is_file():
        raise Cut(f"{path} is {'no file' if path.exists() else 'missing'}", [])
    found, at, end = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at < end:
            file.seek(at)
            header = file.read(HEADER)
            if len(header) < HEADER or masked(header[:8]) != struct.unpack("<I", header[8:])[0]:
                raise Cut(f"{path} is cut or damaged at byte {at} (record {len(found)})", found)
            (length,) = struct.unpack("<Q", header[:8])
            found.append((at + HEADER, length))
            at += HEADER + length + FOOTER
    if at != end:
        raise Cut(f"{path} is cut: record {len(found) - 1} ends at byte {at}, the file at {end}", found[:-1])
    return found


def read(path: Path, start: int, length: int) -> bytes:
    """A record that ``places`` found.

    Raises:
      RecordingError: its checksum is wrong.
    """
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(length)
        footer = file.read(FOOTER)
    if len(data) != length or len(footer) != FOOTER or masked(data) != struct.unpack("<I", footer)[0]:
        raise RecordingError(f"{path}: the record at byte {start} is damaged (its checksum is wrong)")
    return data
