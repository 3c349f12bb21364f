"""What the episodes of every source are looked at for before hours of work: one table, whoever reads them.

EPISODES holds what is wrong with one of them: it is refused, or left out and counted. ``SetChecks`` is about all of them: nothing
moves, or the same is there twice. ``odd_field`` and ``picture_fault`` are about pictures. A reader of a format adds what only its
format can tell. What may be right and deserves a look is the page's to say (``report/checks``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.core.episode import Episode, decode_image
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.core.text import instruction_problem, shown

UNIT = 1e-3  # how far a quaternion's length may be from 1
OPEN = (-0.01, 1.01)  # openings of a gripper
FAR = 100.0  # metres from the origin; an arm's positions beyond are millimetres, or no positions
FASTEST_HZ = 1000.0  # rows per second of a recording with pictures
MOVES = 1e-4  # a set whose targets vary less has none to learn
LOOKED_AT = 3  # episodes whose pictures are looked at before the long work
BLACK = 3  # of 255; a picture without a brighter value shows nothing
ALIKE = 10.0  # of 255, mean difference of two pictures of one moment that were compressed differently
NO_COLORS = {"segmentation", "seg", "semantic", "mask", "masks", "disparity"}  # in the name of a field, depth... too
COLOR_PNG = {(8, 2), (8, 3), (8, 6), (8, 0)} | {
    (bits, 3) for bits in (1, 2, 4)
}  # bit depths and color types that are 8 bits


class SourceError(ValueError):
    """A set of episodes that nothing can be learned from, or that is not what it says."""


class ColorError(ValueError):
    """A picture that is none of colors."""


@dataclass(frozen=True)
class Numbers:
    """An episode without its pictures: state float [t, s], targets float [n, k] of a layout."""

    instructions: Sequence[str]
    state: np.ndarray
    targets: np.ndarray
    layout: ActionLayout

    @classmethod
    def of(cls, episode: Episode) -> Numbers:
        return cls(episode.instructions, episode.state, episode.actions, episode.layout)


@dataclass(frozen=True)
class Check:
    """A kind of fault: ``find`` returns what is wrong with an episode, or None."""

    name: str
    find: Callable[[Numbers], str | None]


def _silent(numbers: Numbers) -> str | None:
    for text in numbers.instructions:
        wrong = instruction_problem(text) or (None if any(letter.isalnum() for letter in text) else "has no words")
        if wrong:
            return f"its instruction {wrong}: {shown(repr(text), 80)}"
    return None if numbers.instructions else "it has no instruction"


def _not_finite(numbers: Numbers) -> str | None:
    for name, values in (("state", numbers.state), ("target", numbers.targets)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            return f"entry {bad[0][1]} of the {name} of row {bad[0][0]} is not finite"
    return None


def _parts(numbers: Numbers, kind: str) -> list[np.ndarray]:
    return [numbers.targets[:, part.boundary] for part in numbers.layout.parts if part.kind == kind]


def _not_unit(numbers: Numbers) -> str | None:
    for values in _parts(numbers, "rotation"):
        length = np.linalg.norm(values, axis=1)
        if np.any(wrong := np.abs(length - 1) > UNIT):
            return f"the quaternion of row {wrong.argmax()} has length {length[wrong.argmax()]:.4f}; expected 1"
    return None


def _no_opening(numbers: Numbers) -> str | None:
    for values in _parts(numbers, "gripper"):
        if np.any(wrong := np.any((values < OPEN[0]) | (values > OPEN[1]), axis=1)):
            return (
                f"the gripper of row {wrong.argmax()} is {values[wrong.argmax()].max():g}; expected 0 closed to 1 open"
            )
    return None


def _far(numbers: Numbers) -> str | None:
    places = _parts(numbers, "position")
    places += [
        numbers.state[:, part.present] for part in numbers.layout.parts if part.kind == "position" and part.present
    ]
    for values in places:
        if np.any(wrong := np.abs(values).max(1) > FAR):
            row = wrong.argmax()
            return f"a position of row {row} is {np.abs(values[row]).max():g} m from the origin; are these millimetres?"
    return None


def _frozen(numbers: Numbers) -> str | None:
    if len(numbers.state) > 1 and not np.any(np.ptp(numbers.state, 0)) and not np.any(np.ptp(numbers.targets, 0)):
        return f"neither state nor targets change in its {len(numbers.state)} rows"
    return None


EPISODES = (
    Check("an instruction that says nothing", _silent),
    Check("numbers that are not finite", _not_finite),
    Check("quaternions that are no rotations", _not_unit),
    Check("openings outside 0 to 1", _no_opening),
    Check("positions out of reach", _far),
    Check("an arm that never moves", _frozen),
)


def fault(numbers: Numbers) -> str | None:
    """What is wrong with an episode; None: nothing."""
    return next(filter(None, (check.find(numbers) for check in EPISODES)), None)


@dataclass(frozen=True)
class Summary:
    """What ``SetChecks`` needs of an episode: least and greatest of every target, or of every command; its content's name."""

    low: np.ndarray
    high: np.ndarray
    content: str

    @classmethod
    def of(cls, numbers: Numbers, commands: np.ndarray | None = None) -> Summary:
        """``commands``: [t, c], where targets move without them (they are added to where the arm is)."""
        moving = numbers.targets if commands is None else commands
        content = fingerprint(list(numbers.instructions), numbers.state.tobytes(), numbers.targets.tobytes())
        return cls(moving.min(0), moving.max(0), content)


class SetChecks:
    """What shows only across episodes: ``add`` each, then ``finish``."""

    def __init__(self) -> None:
        self._first: dict[str, object] = {}
        self._low = self._high = np.empty(0)
        self._count = 0

    def add(self, key: object, summary: Summary) -> object | None:
        """The episode that has the same numbers and words, if one was there before; see ``alike``."""
        first = not self._count
        self._low = summary.low if first else np.minimum(self._low, summary.low)
        self._high = summary.high if first else np.maximum(self._high, summary.high)
        self._count += 1
        before = self._first.setdefault(summary.content, key)
        return None if before is key else before

    def finish(self) -> None:
        """Raises SourceError if nothing moves."""
        if self._count and np.all(self._high - self._low < MOVES):
            raise SourceError(
                f"nothing moves: no number of an action changes in {self._count} episode{'s' * (self._count > 1)}. Is this the "
                "right column, and was the robot on?"
            )


def alike(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two pictures, uint8 [height, width, 3], show the same."""
    return one.shape == two.shape and float(np.abs(one.astype(np.int16) - two).mean()) < ALIKE


def check_rate(hz: float) -> None:
    """Raises SourceError for a number of rows per second that no recording has."""
    if not 0 < hz <= FASTEST_HZ:
        raise SourceError(f"{hz:g} rows per second; expected more than 0 and at most {FASTEST_HZ:g}")


def odd_field(name: str, dtype: str, channels: int | None, depth: bool) -> tuple[str, bool] | None:
    """Why a field of pictures holds no colors, and whether that is sure (then it is no view, even if asked for).

    Args:
      name: of the field.
      dtype: of its numbers.
      channels: of a pixel; None: not known.
      depth: whether the data set says that it holds distances.
    """
    if depth:
        return "a depth map, as the data set says", True
    if dtype != "uint8":
        return f"pictures of {dtype}", True
    if channels not in (None, 3, 4):
        return f"pictures of {channels} channel{'s' * (channels != 1)}", channels != 1
    words = re.findall(r"[a-z]+", re.split(r"[./]", name)[-1].lower())
    if any(word.startswith("depth") or word in NO_COLORS for word in words):
        return "no colors, by its name", False
    return None


def color_picture(data: bytes) -> np.ndarray:
    """The picture of an encoded file, uint8 [height, width, 3] RGB.

    Raises:
      ColorError: it has more than 8 bits per channel: a depth map, most likely.
      ValueError: it cannot be decoded.
    """
    if data.startswith(b"\x89PNG") and len(data) > 26:
        bits, kind = struct.unpack_from("BB", data, 24)
        if (bits, kind) not in COLOR_PNG and bits > 8:
            raise ColorError(f"has {bits} bits per channel; expected colors of 8 bits (a depth map?)")
    if data[:4] in (b"II*\0", b"MM\0*") or data.startswith(b"\x76\x2f\x31\x01"):
        raise ColorError("is a TIFF or EXR file; expected colors of 8 bits in a PNG or JPEG file (a depth map?)")
    return decode_image(data)


def plain_png(data: bytes) -> bool:
    """Whether a file may be kept as it is: three channels of 8 bits each (JPEG: always)."""
    return not data.startswith(b"\x89PNG") or tuple(data[24:26]) == (8, 2)


def picture_fault(samples: Iterable[Mapping[str, Sequence[np.ndarray]]]) -> str | None:
    """What is wrong with the pictures of a few episodes; None: nothing.

    Args:
      samples: of each episode, {view: its first, middle and last picture, uint8 [height, width, 3]}.
    """
    views: dict[str, list[np.ndarray]] = {}
    episodes = 0
    for sample in samples:
        episodes += 1
        for view, pictures in sample.items():
            views.setdefault(view, []).extend(pictures)
    for view, pictures in views.items():
        where = f"view {view}: the {len(pictures)} pictures that were looked at"
        if pictures and max(int(picture.max()) for picture in pictures) <= BLACK:
            return f"{where} are black; name the other views (--cameras)"
        if episodes > 1 and len(pictures) > 2 and all(np.array_equal(picture, pictures[0]) for picture in pictures):
            return f"{where}, of {episodes} episodes, are one and the same; name the other views (--cameras)"
    return None


def check_files(splits: Mapping[str, Sequence[Path]]) -> None:
    """Looks at the episodes of a set just before it is written, whatever they were made from.

    Raises:
      SourceError: an episode has a fault, is there twice, or nothing moves; or the pictures of the first show nothing.
    """
    checks, paths = SetChecks(), [path for found in splits.values() for path in found]
    for path in paths:
        episode = Episode.load(path, images=False)
        numbers = Numbers.of(episode)
        if found := fault(numbers):
            raise SourceError(f"{path.stem} ({episode.task}): {found}")
        before = checks.add(path, Summary.of(numbers))
        if isinstance(before, Path) and _same_pictures(before, path):
            raise SourceError(
                f"{path.stem} ({episode.task}) is {before.stem} again, pictures too; leave one of them out"
            )
    checks.finish()
    if found := picture_fault(map(_looked_at, paths[:LOOKED_AT])):
        raise SourceError(found)


def rows_to_look_at(count: int) -> np.ndarray:
    """The first, middle and last of ``count`` rows, ascending."""
    return np.unique([0, count // 2, count - 1])


def _looked_at(path: Path) -> dict[str, list[np.ndarray]]:
    episode = Episode.load(path)
    rows = rows_to_look_at(len(episode))
    return {view: [decode_image(files[row]) for row in rows] for view, files in episode.images.items()}


def _same_pictures(one: Path, two: Path) -> bool:
    pair = [_looked_at(path) for path in (one, two)]
    return pair[0].keys() == pair[1].keys() and all(
        alike(a, b) for view in pair[0] for a, b in zip(pair[0][view], pair[1][view])
    )
