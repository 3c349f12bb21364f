"""What a setting may be, as one row of a table: a number within bounds, one of several words, a name, a list of these.

``row.problem(value)`` is what was expected where the value is something else, and None where it fits.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass

from drifting_vla_jax.core import text as text_lib


@dataclass(frozen=True)
class Number:
    """A finite number.

    Attributes:
      low, high: the bounds.
      ends: as intervals are written: "[" and "]" include a bound, "(" and ")" do not.
      whole: integers only.
      also: values outside the bounds that are accepted too.
    """

    low: float
    high: float
    ends: str = "[]"
    whole: bool = False
    also: tuple = ()

    @property
    def bounds(self) -> tuple[float, float]:
        """For a flag."""
        return self.low, self.high

    def problem(self, value: object) -> str | None:
        kind = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, kind) and not isinstance(value, bool) and (self._within(value) or value in self.also):
            return None
        above = "at least" if self.ends[0] == "[" else "above"
        below = "at most" if self.ends[1] == "]" else "below"
        others = "".join(f", or {value}" for value in self.also)
        what = "a whole number" if self.whole else "a number"
        return f"expected {what}, {above} {_plain(self.low)} and {below} {_plain(self.high)}{others}"

    def _within(self, value) -> bool:
        low = value >= self.low if self.ends[0] == "[" else value > self.low
        high = value <= self.high if self.ends[1] == "]" else value < self.high
        return bool(low and high)  # NaN and infinity are neither


def whole(low: int, high: int, also: tuple = ()) -> Number:
    return Number(low, high, whole=True, also=also)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def problem(self, value: object) -> str | None:
        return None if isinstance(value, bool) else "expected True or False"


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    words: tuple[str, ...]

    def problem(self, value: object) -> str | None:
        return None if isinstance(value, str) and value in self.words else f"expected {' or '.join(self.words)}"


@dataclass(frozen=True)
class Text:
    """Free text; ``empty``: it may say nothing."""

    empty: bool = False

    def problem(self, value: object) -> str | None:
        wrong = text_lib.problem(value)
        if wrong is None and not self.empty and not value.strip():
            return "expected some text"
        return f"it {wrong}" if wrong else None


@dataclass(frozen=True)
class Place:
    """A path on this machine.

    Attributes:
      what: "DIR", "FILE.json", ...: for help and messages.
      hub: whether an id of the Hugging Face hub will do as well.
    """

    what: str = "DIR"
    hub: bool = False

    def problem(self, value: object) -> str | None:
        wrong = text_lib.problem(value)
        return f"it {wrong}" if wrong else None


@dataclass(frozen=True)
class Name:
    """Of a task, a camera, a joint: see ``core/text.py``."""

    def problem(self, value: object) -> str | None:
        wrong = text_lib.name_problem(value)
        return f"it {wrong}" if wrong else None


@dataclass(frozen=True)
class Many:
    """A tuple of such values.

    Attributes:
      each: what every one may be.
      least, most: how many there are.
      repeats: whether one may come twice.
    """

    each: Number | Choice | Text | Name
    least: int = 0
    most: int = 10_000
    repeats: bool = False

    def problem(self, value: object) -> str | None:
        return next(self._problems(value), None)

    def _problems(self, value: object) -> Iterator[str]:
        if not isinstance(value, (tuple, list)):
            yield "expected a tuple, for example (a, b)"
            return
        if not self.least <= len(value) <= self.most:
            yield f"it has {len(value)} entries; expected at least {self.least} and at most {self.most}"
        for entry in value:
            wrong = self.each.problem(entry)
            if wrong:
                yield f"of {quoted(entry)}: {wrong}"
        twice = [entry for at, entry in enumerate(value) if entry in value[:at]]
        if twice and not self.repeats:
            yield f"it has {quoted(twice[0])} more than once"


def said(name: str, value: object, row) -> str | None:
    """The line that says what is wrong with a named value, or None."""
    wrong = row.problem(value)
    return f"{name} is {quoted(value)}; {wrong}" if wrong else None


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def quoted(value: object) -> str:
    return text_lib.shown(f"{value!r}", 120)


SEED = whole(0, 2**62)  # jax and numpy take 63 bits
FIRST_SEED = whole(
    0, 2**32 - 1_000_001
)  # of episodes: the last one's, of 32 bits, goes to the policy (wire/protocol.py)
PORT = whole(0, 65535)
COUNT = whole(1, 1_000_000)  # episodes, steps of an episode, ...
SEVERAL = whole(0, 1_000_000)  # the same, and none
PROCESSES = whole(1, 4096)  # or threads
PIXELS = whole(1, 4096)
CONTROL_STEPS = whole(0, 100_000)  # that pass between asking and acting
FRAME_SKIP = whole(1, 100_000)
DECAY_RATE = Number(0.0, 1e3)
HZ = Number(0.0, 100_000.0)  # 0: as recorded
SECONDS = Number(0.0, 1e8, "(]")
WAIT = Number(0.0, 1e8)
MEGABYTES = Number(0.0, 1e6)
