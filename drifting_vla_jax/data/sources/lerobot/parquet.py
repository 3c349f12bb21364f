"""Parquet tables that others wrote, column by column, whatever width or encoding a column was written in. Extra: [lerobot]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from drifting_vla_jax.core.metadata import Fields
from drifting_vla_jax.data import video
from drifting_vla_jax.data.sources.recorded.base import RecordingError


def read(path: Path, columns: Sequence[str] | None = None, optional: Sequence[str] = ()):
    """A file as a pyarrow table: these columns, or all; those of ``optional`` that there are.

    Raises:
      RecordingError: it is missing, damaged, or lacks a column.
    """
    pa, parquet = video.library("pyarrow"), video.library("pyarrow.parquet")
    if not path.is_file():
        raise RecordingError(f"{path} is {'no file' if path.exists() else 'missing'}")
    try:
        if columns is not None:
            there = parquet.read_schema(path).names
            for name in columns:
                if there.count(name) != 1:
                    raise RecordingError(f"{path} has {there.count(name) or 'no'} columns {name!r}; expected one")
            columns = [*columns, *(name for name in optional if name in there)]
        return parquet.read_table(path, columns=columns, partitioning=None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RecordingError(
            f"{path} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error


def numbers(column, width: int, where: str) -> np.ndarray:
    """float64 [t, width] of a column of numbers or of lists of them; a null is not finite.

    Raises:
      RecordingError: it holds something else, or rows of other lengths; begins with ``where``.
    """
    types, rows, values = video.library("pyarrow.types"), len(column), _plain(column)
    while types.is_list(values.type) or types.is_fixed_size_list(values.type) or types.is_large_list(values.type):
        lengths = set(values.value_lengths().to_pylist())
        if len(lengths) > 1:
            raise RecordingError(
                f"{where} has rows of {', '.join(sorted(map(str, lengths)))} numbers; expected {width}"
            )
        values = values.flatten()
    kind = values.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise RecordingError(f"{where} holds {kind}; expected numbers")
    if len(values) != rows * width:
        raise RecordingError(f"{where} has {len(values)} numbers in {rows} rows; expected {width} in each")
    return values.to_numpy(zero_copy_only=False).astype(np.float64).reshape(rows, width)


def integers(column, where: str) -> np.ndarray:
    """int64 [t] of a column of whole numbers, see ``numbers``."""
    values = numbers(column, 1, where)[:, 0]
    whole = np.isfinite(values) & (values == np.round(values))
    if not whole.all():
        raise RecordingError(f"{where} of row {int(np.flatnonzero(~whole)[0])} is no whole number")
    return values.astype(np.int64)


def _plain(column):
    """A column as one array without dictionary."""
    values = column.combine_chunks()
    return values.dictionary_decode() if video.library("pyarrow.types").is_dictionary(values.type) else values


def rows(table, path: Path) -> Iterator[Fields]:
    """A table row by row."""
    return (Fields(f"{path}, row {n}", row, RecordingError) for n, row in enumerate(table.to_pylist()))


def holds_text(column) -> bool:
    types, kind = video.library("pyarrow.types"), column.type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
