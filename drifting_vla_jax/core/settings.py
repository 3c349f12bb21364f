"""Settings: a frozen dataclass per section of the configuration, each field with its type and its range.

    @dataclass(frozen=True)
    class Settings:
        samples: Annotated[int, whole(2, 65536)]
        temperatures: Annotated[tuple[float, ...], Many(Number(0.0, 1e4, "(]"), least=1)]

There are no defaults: values and their comments stand in ``configs/base.py``. What fields must be to each other a class
checks in ``__post_init__`` with ``require``.

Settings that are flags of a command, too, have an ``Option`` behind their range: the flag's value by default, and its help.

    change: Annotated[str, Choice(("none", "light")), Option("none", "what no demonstration has shown")]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_type_hints

from drifting_vla_jax.core import ranges
from drifting_vla_jax.core.suggest import did_you_mean

T = TypeVar("T")


class SettingsError(ValueError):
    """Settings that cannot be meant; the message names every key, what it is and what was expected."""


@dataclasses.dataclass(frozen=True)
class Option:
    """Of a setting that can be given on a command line, too.

    Attributes:
      default: its value where it is not given there.
      text: the flag's help.
      identity: whether it tells two evaluations apart.
    """

    default: Any
    text: str
    identity: bool = True


def require(holds: bool, message: str) -> None:
    """Raises SettingsError with the message unless the condition holds."""
    if not holds:
        raise SettingsError(message)


def read(cls: type[T], section: Mapping[str, Any], where: str) -> T:
    """Settings of a section of the configuration.

    Args:
      cls: a frozen dataclass as above; a field that is a dataclass itself is a section within the section.
      section: a ``ConfigDict``, or what JSON gives: lists become tuples.
      where: name of the section, for messages: "config.objective.drifting".

    Raises:
      SettingsError: a key that is missing, unknown or outside its range; all of them in one message.
    """
    problems = list(_problems(cls, section, where))
    if problems:
        raise SettingsError("; ".join(problems))
    return _build(cls, section, where)


def rows(cls: type, prefix: str = "") -> dict[str, Any]:
    """{key: its range} of a settings class; the keys of sections within are joined by dots."""
    out = {}
    for name, kind, row in _fields(cls):
        if dataclasses.is_dataclass(kind):
            out |= rows(kind, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            out[f"{prefix}{name}"] = row
    return out


def options(cls: type) -> dict[str, Option]:
    """{name: its Option} of the fields that have one."""
    found = {name: get_type_hints(cls, include_extras=True)[name].__metadata__ for name in rows(cls) if rows(cls)[name]}
    return {name: extras[1] for name, extras in found.items() if len(extras) > 1}


def defaults(cls: type) -> dict[str, Any]:
    """{name: its value by default} of the fields that have an Option."""
    return {name: option.default for name, option in options(cls).items()}


def to_dict(settings: Any) -> dict[str, Any]:
    """{name: value} of a settings object; what ``read`` takes, and JSON."""
    return dataclasses.asdict(settings)


def _build(cls: type[T], section: Mapping[str, Any], where: str) -> T:
    values = {}
    for name, kind, _ in _fields(cls):
        value = section[name]
        if dataclasses.is_dataclass(kind):
            values[name] = _build(kind, value, f"{where}.{name}")  # type: ignore[arg-type]
        else:
            values[name] = tuple(value) if isinstance(value, (list, tuple)) else value
    return cls(**values)


def _problems(cls: type, section: Any, where: str) -> Iterator[str]:
    if not isinstance(section, Mapping) and not hasattr(section, "keys"):
        yield f"{where} is {ranges.quoted(section)}; expected a section with the keys {', '.join(_names(cls)) or 'none'}"
        return
    for name in section.keys():  # noqa: SIM118 a ConfigDict's iterator is of keys, too
        if name not in _names(cls):
            yield f"{where}.{name} is no key; {did_you_mean(name, _names(cls), 'expected')}"
    for name, kind, row in _fields(cls):
        if name not in section:
            yield f"{where}.{name} is missing"
        elif dataclasses.is_dataclass(kind):
            yield from _problems(kind, section[name], f"{where}.{name}")  # type: ignore[arg-type]
        elif row is not None and (wrong := ranges.said(f"{where}.{name}", section[name], row)):
            yield wrong


def _names(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]


def _fields(cls: type) -> Iterator[tuple[str, Any, Any]]:
    """(name, type, range or None) of every field."""
    kinds = get_type_hints(cls, include_extras=True)
    for name in _names(cls):
        kind = kinds[name]
        extras = getattr(kind, "__metadata__", ())
        yield name, getattr(kind, "__origin__", kind) if extras else kind, extras[0] if extras else None
