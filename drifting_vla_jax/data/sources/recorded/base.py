"""Recorded episodes of any format -> the episodes that every source hands to the builder.

A format (``data/sources/lerobot/reader.py``, ``data/sources/rlds/reader.py``) says what there is and gives one recording at a
time; here is what all of them share: which cameras, which rows at which rate, and what becomes of rectangular pictures.

Control rate: row k of an episode is the recorded row nearest in time to k / rate, and its target is what the recording
aims at one such step later, whatever lay between. There is no interpolation, so a rate above the recording's is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

from drifting_vla_jax.core.episode import Episode, encode_png, square, task_name
from drifting_vla_jax.core.ranges import HZ, Many, Name, Place, whole
from drifting_vla_jax.core.settings import Option
from drifting_vla_jax.core.suggest import did_you_mean
from drifting_vla_jax.core.text import instruction_problem, shown
from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.base import Episodes, Held, OnError, Workers, check_fraction
from drifting_vla_jax.data.sources.recorded.extract import FieldExtractor

log = logging.getLogger(__name__)


class RecordingError(ValueError):
    """A recording that is damaged, incomplete or contradicts itself; names the file."""


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode of t rows as its format has it.

    Attributes:
      name: for messages.
      instructions: what was asked, the plainest first.
      arrays: {field: float64 [t, k]}.
      pictures: (camera's field, rows) -> the picture of each row: uint8 [height, width, 3], or an encoded file.
    """

    name: str
    instructions: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    pictures: Callable[[str, np.ndarray], Iterator[np.ndarray | bytes]]

    def __post_init__(self):
        for said in self.instructions:
            if wrong := instruction_problem(said):
                raise RecordingError(f"{self.name}: the instruction {wrong}: {shown(repr(said), 80)}")


Job = tuple[str, int]  # split and number of an episode in it


class Faults(dict[Job, str]):
    """Episodes that cannot be used and why: counted if ``on_error`` is "skip", otherwise the first ends it all."""

    def __init__(self, on_error: str):
        super().__init__()
        self._on_error = on_error

    def add(self, job: Job, error: Exception) -> None:
        """Raises RecordingError unless such an episode is to be left out."""
        if self._on_error == "fail":
            raise RecordingError(f"{error}; --on_error=skip leaves such episodes out and counts them") from error
        self[job] = str(error)


def chosen(splits: Mapping[str, Sequence], jobs: Sequence[Job] | None) -> dict[Job, object]:
    """The episodes of these jobs, or all."""
    if jobs is None:
        jobs = [(split, number) for split, episodes in splits.items() for number in range(len(episodes))]
    return {(split, number): splits[split][number] for split, number in jobs}


class Format(Protocol):
    """What there is to read.

    Attributes:
      hz: rows per second.
      widths: {field: numbers per row}.
      names: {field: what each of them is}, where that is said.
      cameras: fields with pictures.
      odd: {field: why its pictures hold no colors, whether that is sure}, see ``episode_checks.odd_field``.
      revision: of a hub's repository, which commit; "": a folder of this machine, which anything may change.
      splits: {"train": episodes, "val": episodes} where the data come so divided; {"": episodes} otherwise.
    """

    hz: float
    widths: Mapping[str, int]
    names: Mapping[str, Sequence[str]]
    cameras: Sequence[str]
    revision: str
    splits: Mapping[str, Sequence]

    def check(
        self,
        fields: Sequence[str],
        cameras: Sequence[str],
        jobs: Sequence[Job] | None = None,
        on_error: str = "fail",
    ) -> Faults:
        """Looks at all of these episodes (none given: every one) that can be looked at without decoding, at no other.

        Raises:
          RecordingError: an episode is damaged and ``on_error`` is "fail"; or something is wrong with the whole data set.
        """
        ...

    def task_of(self, episode: object) -> str:
        """The first instruction of an episode; raises RecordingError if it cannot be told."""
        ...

    def read(self, episode: object, fields: Sequence[str]) -> RecordedEpisode:
        """Raises RecordingError."""
        ...

    def fingerprint(self, episode: object, fields: Sequence[str], cameras: Sequence[str]) -> str:
        """Names all that ``read`` would give of an episode, without decoding; raises RecordingError."""
        ...


@dataclass(frozen=True)
class RecordedSettings:
    """What to convert.

    Attributes:
      mapping: what ``mapping.load`` gave.
    """

    input: Annotated[
        str,
        Place("DIR", hub=True),
        Option(None, "folder of the data set, or OWNER/NAME where the Hugging Face hub is read"),
    ]
    mapping: Annotated[
        Mapping,
        Place("PRESET or FILE.json"),
        Option(None, "which numbers are what, see docs/reference/mapping-language.md"),
    ]
    tasks: Annotated[
        tuple[str, ...], Many(Name()), Option((), "instructions, written as pick-up-the-cube; default: all")
    ]
    episodes: Episodes
    cameras: Annotated[
        tuple[str, ...], Many(Name()), Option((), "our names of views, in order; default: those of the mapping, or all")
    ]
    image_size: Annotated[
        int,
        whole(8, 4096, also=(0,)),
        Option(
            0,
            "height and width of every view, pixels; 0: the shorter side of the recorded ones (crop) or the longer (pad)",
        ),
    ]
    control_hz: Annotated[float, HZ, Option(0.0, "steps per second, rows nearest in time are taken; 0: as recorded")]
    val_fraction: Held
    on_error: OnError
    workers: Workers

    def __post_init__(self):
        check_fraction(self.val_fraction)


def choose_cameras(
    mapping: Mapping, found: Sequence[str], wanted: Sequence[str], odd: Mapping[str, tuple[str, bool]]
) -> dict[str, str]:
    """{our name: its field} of the views that are wanted, in order. Those in ``odd`` (see ``Format``) are not among all.

    Raises:
      ValueError: a view or field that is not there, offering the nearest, or that is surely none of colors.
    """
    known = mapping.get("cameras") or {re.split(r"[./]", field)[-1]: field for field in found}
    if len(known) < len(found) and not mapping.get("cameras"):
        raise ValueError(
            f"of the fields {', '.join(found)} several end alike; give them names in the mapping's cameras"
        )
    for name, field in known.items():
        if field not in found:
            raise ValueError(f"camera {name}: the data set has no pictures {field!r}; {did_you_mean(field, found)}")
    for name in wanted:
        if name not in known:
            raise ValueError(f"unknown camera {name!r}; expected some of {', '.join(known) or 'none'}")
    left = (
        {}
        if mapping.get("cameras")
        else {name: odd[f][0] for name, f in known.items() if f in odd and name not in wanted}
    )
    chosen = {name: known[name] for name in wanted or known if name not in left}
    for name, field in chosen.items():
        if odd.get(field, ("", False))[1]:
            raise ValueError(f"camera {name}: {field} holds {odd[field][0]}; expected colors of 8 bits")
    said = "; ".join(f"{name} ({why})" for name, why in left.items())
    if not chosen:
        raise ValueError(f"the data set has no pictures{said and f' of colors: {said}'}")
    if left and not wanted:
        log.info("views left out: %s", said)
    return chosen


def rows_at(count: int, recorded_hz: float, hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``count`` recorded targets make up an episode of ``hz`` steps per second (0: as recorded).

    Returns:
      rows, the row nearest in time to each step; ahead, the row whose target is the one a whole step later.

    Raises:
      ValueError: a rate above the recorded one.
    """
    if not hz or hz == recorded_hz:
        return np.arange(count), np.arange(count)
    if hz > recorded_hz:
        raise ValueError(f"--control_hz={hz:g} is above the {recorded_hz:g} rows per second that were recorded")
    rows = np.floor(np.arange(count + 1) * recorded_hz / hz + 0.5).astype(int)
    rows = rows[: np.searchsorted(rows, count) + 1]
    return rows[:-1], np.minimum(rows[1:], count) - 1


def decoded(picture: np.ndarray | bytes) -> np.ndarray:
    """A recording's picture, uint8 [height, width, 3]; raises as ``episode_checks.color_picture`` does."""
    if not len(picture):
        raise ValueError("an empty file")
    return episode_checks.color_picture(picture) if isinstance(picture, bytes) else picture


def _picture(picture: np.ndarray | bytes, size: int, fit: str) -> tuple[bytes, int]:
    """The encoded square picture and its side; a file of colors that has the right size already is kept byte for byte."""
    image = decoded(picture)
    as_is = isinstance(picture, bytes) and episode_checks.plain_png(picture)
    if as_is and image.shape[0] == image.shape[1] == (size or image.shape[0]):
        return picture, len(image)
    image = square(image, size, fit)
    return encode_png(image), len(image)


def numbers_of(recording: RecordedEpisode, reading: FieldExtractor, skip: int) -> tuple[np.ndarray, np.ndarray]:
    """State [t, s] and targets [n, k] of all rows but the first ``skip``.

    Raises:
      RecordingError: numbers that are not finite, rotations that are none.
    """
    for name, values in recording.arrays.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
            raise RecordingError(f"{recording.name}: {name} of row {row} is not finite")
    arrays = {name: values[skip:] for name, values in recording.arrays.items()}
    if not len(next(iter(arrays.values()))):
        raise RecordingError(f"{recording.name} has no row after the first {skip}, which the mapping leaves out")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is found as not finite
            return reading.state(arrays), reading.targets(arrays)
    except ValueError as error:  # scipy's and ours: what was read as a rotation is none
        raise RecordingError(f"{recording.name}: {error}") from error


def to_episode(
    recording: RecordedEpisode,
    reading: FieldExtractor,
    cameras: Mapping[str, str],
    hz: float,
    settings: RecordedSettings,
) -> Episode:
    """A recording as rows with their targets.

    Raises:
      RecordingError: numbers that are not finite, rotations that are none, too few rows, pictures that differ in size or
        cannot be decoded.
    """
    skip = settings.mapping.get("skip_first", 0)
    state, targets = numbers_of(recording, reading, skip)
    rows, ahead = rows_at(len(targets), hz, settings.control_hz)
    if not len(rows):
        raise RecordingError(f"{recording.name} has {len(state)} rows; a target needs one more")
    images, size = {}, settings.image_size
    for name, field in cameras.items():
        images[name] = []
        for picture in recording.pictures(field, rows + skip):
            try:
                encoded, found = _picture(picture, settings.image_size, settings.mapping.get("fit", "crop"))
            except episode_checks.ColorError as error:
                raise RecordingError(f"{recording.name}: a picture of {field} {error}") from error
            except ValueError as error:
                raise RecordingError(f"{recording.name}: {field} cannot be decoded") from error
            size = size or found
            if found != size:
                raise RecordingError(f"{recording.name}: {field} has {found} px, others {size}; give --image_size")
            images[name].append(encoded)
    return Episode(
        task=task_name(recording.instructions[0]),
        variation=0,
        seed=-1,
        instructions=recording.instructions,
        images=images,
        state=state[rows],
        actions=targets[ahead],
        layout=reading.layout,
    )
