"""TFRecord files without tensorflow: records one after the other, each between two checksums.

    uint64 n | uint32 checksum of these 8 bytes | n bytes | uint32 checksum of them          little-endian

A checksum is CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), turned right by 15 bits, plus 0xa282ead8 (format of
tensorflow's core/lib/io/record_writer).

CRC is linear over GF(2). So a record is cut into lanes that go through the table side by side, a byte of each at a time, and
their remainders are joined pairwise: crc(a b) = crc(a) moved past |b| zero bytes + crc(b).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from drifting_vla_jax.data.recordings import RecordingError

POLYNOMIAL = 0x82F63B78
LANE = 128  # bytes, about
HEADER, FOOTER = 12, 4


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table


_TABLE = _byte_table()
# What one more zero byte does to a remainder, for each of its four bytes by itself: uint32 [4, 256].
_ONE = np.stack([_TABLE, *(np.arange(256, dtype=np.uint32) << np.uint32(8 * i) for i in range(3))])


def _moved(tables: np.ndarray, remainders: np.ndarray) -> np.ndarray:
    """Remainders past as many zero bytes as the tables stand for."""
    bytes_ = remainders[..., None] >> np.array([0, 8, 16, 24], np.uint32) & np.uint32(255)
    return np.bitwise_xor.reduce(tables[np.arange(4), bytes_], axis=-1)


def _power(count: int) -> np.ndarray:
    """The tables of ``count`` zero bytes, by squaring."""
    result, square = None, _ONE
    while count:
        if count & 1:
            result = square if result is None else _moved(square, result)
        square, count = _moved(square, square), count >> 1
    return result


def crc32c(data: bytes) -> int:
    """CRC-32C of at least four bytes."""
    lanes = 1 << max(0, (len(data) // LANE).bit_length() - 1)
    length = -(-len(data) // lanes)
    padded = np.zeros(lanes * length, np.uint8)  # zeros in front change nothing
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 0xFF  # the same as to begin with all bits set
    remainders = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(lanes, length).T):
        remainders = _TABLE[(remainders ^ column) & np.uint32(255)] ^ (remainders >> np.uint32(8))
    tables = _power(length) if lanes > 1 else _ONE
    while len(remainders) > 1:
        remainders = _moved(tables, remainders[0::2]) ^ remainders[1::2]
        tables = _moved(tables, tables)
    return int(remainders[0]) ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The checksum that stands in the file."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def places(path: Path) -> list[tuple[int, int]]:
    """Where each record begins and how long it is; nothing but the lengths is read.

    Raises:
      RecordingError: the file is missing, cut, or no TFRecord file.
    """
    if not path.is_file():
        raise RecordingError(f"{path} is missing")
    found, at, end = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at < end:
            file.seek(at)
            header = file.read(HEADER)
            if len(header) < HEADER or masked(header[:8]) != struct.unpack("<I", header[8:])[0]:
                raise RecordingError(f"{path} is cut or damaged at byte {at} (record {len(found)})")
            (length,) = struct.unpack("<Q", header[:8])
            found.append((at + HEADER, length))
            at += HEADER + length + FOOTER
    if at != end:
        raise RecordingError(f"{path} is cut: record {len(found) - 1} ends at byte {at}, the file at {end}")
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
