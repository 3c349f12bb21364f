"""What others' files say about themselves, read field by field: one that is missing or odd is named with its file.

JSON in UTF-8, with a byte order mark or without one. A key that stands twice in an object is refused: readers differ in
which of the two they take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NEEDED: Any = object()
SHOWN = 80  # letters of a value in a message
LARGEST = 2**53  # beyond it not every whole number is a float


class MetadataError(ValueError):
    """A file says too little about itself, or something that cannot be; names the file and the field."""


def shown(value: object) -> str:
    """A value for a message: its type and, shortened, what it is."""
    if value is None:
        return "null"
    text = f"{type(value).__name__} {value!r}" if isinstance(value, (dict, list)) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


class Named(dict):
    """An object of a file as a dict; to ask it for a key that it lacks is an error that names the file."""

    def __init__(self, values: Any = (), where: object = "", error: type[Exception] = MetadataError, advice: str = ""):
        super().__init__(values)
        self._where, self._error, self._advice = where, error, advice

    def __missing__(self, name: object) -> Any:
        raise self._error(f"{self._where}: {name} is missing{self._advice and '; '}{self._advice}")


class Fields:
    """The fields of an object that came from a file.

    A getter takes the name of a field and, for one that may be missing or null, what it then returns.

    Args:
      where: the file, and the place in it, for messages.
      values: the object.
      error: what is raised for a field that is missing or odd.
      advice: what to do then; ends the message.
    """

    def __init__(self, where: object, values: dict[str, Any], error: type[Exception] = MetadataError, advice: str = ""):
        self.where, self.values, self._error, self._advice = where, values, error, advice

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def fault(self, text: str) -> Exception:
        """The error to raise when this object is not what it should be."""
        return self._error(f"{self.where}: {text}{self._advice and '; '}{self._advice}")

    def odd(self, name: str, expected: str) -> Exception:
        """The error to raise for a field that is there."""
        return self.fault(f"{name} is {shown(self.values[name])}; expected {expected}")

    def get(self, name: str, default: Any = NEEDED, expected: str = "something") -> Any:
        """A field as it is."""
        if name in self:
            return self.values[name]
        if default is not NEEDED:
            return default
        if name in self.values:
            raise self.odd(name, expected)
        raise self.fault(f"{name} is missing; expected {expected}")

    def number(self, name: str, default: Any = NEEDED, *, above: float = -math.inf, least: float = -math.inf) -> float:
        """A finite number."""
        limit = f" above {above:g}" if above > -math.inf else f" of at least {least:g}" if least > -math.inf else ""
        value = self.get(name, default, f"a number{limit}")
        if value is default:
            return value
        if type(value) not in (int, float) or not abs(value) <= LARGEST or value <= above or value < least:
            raise self.odd(name, f"a number{limit}")
        return float(value)

    def integer(self, name: str, default: Any = NEEDED, *, least: int = 0) -> int:
        """A whole number; JSON may write it as 3.0."""
        expected = f"a whole number of at least {least}"
        value = self.get(name, default, expected)
        if value is default:
            return value
        if type(value) not in (int, float) or not least <= value <= LARGEST or value != int(value):
            raise self.odd(name, expected)
        return int(value)

    def text(self, name: str, default: Any = NEEDED) -> str:
        value = self.get(name, default, "a text")
        if value is not default and not is_text(value):
            raise self.odd(name, "a text")
        return value

    def texts(self, name: str, default: Any = NEEDED) -> tuple[str, ...]:
        """A list of texts."""
        value = self.get(name, default, "a list of texts")
        if value is default:
            return value
        if not isinstance(value, (list, tuple)) or not all(map(is_text, value)):
            raise self.odd(name, "a list of texts")
        return tuple(value)

    def integers(self, name: str, default: Any = NEEDED, *, least: int = 0) -> tuple[int, ...]:
        """A list of whole numbers."""
        expected = f"a list of whole numbers of at least {least}"
        value = self.get(name, default, expected)
        if value is default:
            return value
        if not isinstance(value, (list, tuple)) or not all(
            type(item) is int and least <= item <= LARGEST for item in value
        ):
            raise self.odd(name, expected)
        return tuple(value)

    def mapping(self, name: str, default: Any = NEEDED) -> Fields:
        """An object within."""
        value = self.get(name, default, "an object")
        if not isinstance(value, dict):
            raise self.odd(name, "an object")
        return Fields(f"{self.where}: {name}", value, self._error, self._advice)

    def mappings(self, name: str, default: Any = NEEDED) -> list[Fields]:
        """A list of objects within."""
        value = self.get(name, default, "a list of objects")
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
            raise self.odd(name, "a list of objects")
        return [Fields(f"{self.where}: {name}[{i}]", item, self._error, self._advice) for i, item in enumerate(value)]

    def items(self) -> Iterator[tuple[str, Fields]]:
        """Every field, which is an object, by its name."""
        return ((name, self.mapping(name)) for name in self.values)


def is_text(value: object) -> bool:
    """Whether it is a text that can be written again: no half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def read_json(path: Path, error: type[Exception] = MetadataError, advice: str = "") -> Fields:
    """The object that a file holds.

    Raises:
      error: it is missing, no UTF-8, no JSON, or no object.
    """
    return _parsed(_text(path, error, advice), path, error, advice)


def read_lines(path: Path, error: type[Exception] = MetadataError, advice: str = "") -> list[Fields]:
    """The objects of a file that has one on each line; empty lines are none.

    Raises:
      error: see ``read_json``; names the line.
    """
    lines = _text(path, error, advice).split("\n")  # not splitlines(): a text may hold U+2028
    return [_parsed(line, f"{path}, line {n}", error, advice) for n, line in enumerate(lines, 1) if line.strip()]


def read_dict(
    path: Path, kinds: Mapping[str, type], error: type[Exception] = MetadataError, advice: str = ""
) -> dict[str, Any]:
    """The object that a file of this package's own holds, as ``Named``; these fields are there and of these types.

    Raises:
      error: see ``read_json``.
    """
    found = read_json(path, error, advice)
    for name, kind in kinds.items():
        if not isinstance(found.get(name, expected=f"a {kind.__name__}"), kind):
            raise found.odd(name, f"a {kind.__name__}")
    return found.values


def _text(path: Path, error: type[Exception], advice: str) -> str:
    end = advice and f"; {advice}"
    if not path.is_file():  # neither a folder nor a pipe, which would be waited for
        raise error(f"{path} is {'no file' if path.exists() else 'missing'}{end}")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{path} is no text in UTF-8 ({fault.reason} at byte {fault.start}){end}") from fault
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror}{end}") from fault


def _parsed(text: str, where: object, error: type[Exception], advice: str) -> Fields:
    end = advice and f"; {advice}"
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: Named(_once(pairs), where, error, advice))
    except (ValueError, RecursionError) as fault:  # the second: nested too deeply
        raise error(f"{where} is damaged: {fault if text.strip() else 'it is empty'}{end}") from fault
    if not isinstance(found, dict):
        raise error(f"{where} holds {shown(found)}; expected an object{end}")
    return Fields(where, found, error, advice)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {shown(name)} stands twice in one object")
        found[name] = value
    return found
