"""How every command begins and ends: paths as people write them; bad input becomes one line on stderr, the last, and a
non-zero exit; a bug keeps its traceback."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from absl import app, flags

from drifting_vla_jax.core import flag_checks, paths, ranges, settings, signals
from drifting_vla_jax.core.text import shown

# What a user can cause: wrong values, missing files and packages, unreachable servers, full disks, too little memory,
# simulators that do not start.
USER_ERRORS = (ValueError, OSError, RuntimeError, ImportError, MemoryError)

flags.DEFINE_bool("traceback", False, "on an error, show where it came from")
_MISSING = re.compile(r"flag (--\w+)=None: Flag --\w+ must have a value other than None")  # absl's words
flags.disclaim_key_flags()  # a path is a flag of the module that defines it


class _PathParser(flags.ArgumentParser):
    """A path, see ``core.paths``; whether it may be empty ``core.flag_checks`` knows."""

    def __init__(self, writes: str | None, hub: bool):
        self._writes, self._hub = writes, hub

    def parse(self, argument: str) -> str:
        if not argument:
            return argument
        path = paths.user_path(argument, self._hub)
        if self._writes:
            paths.writable(path, self._writes == "folder")
        return path


class _PathsParser(flags.ListParser):
    """Comma-separated paths."""

    def parse(self, argument: str | list) -> list[str]:
        return [paths.user_path(path) for path in super().parse(argument)]


def define_path(
    name: str, default: str | None, text: str, *, writes: str | None = None, hub: bool = False, **options: Any
) -> flags.FlagHolder:
    """A flag that is a path of this machine, expanded; what cannot be meant is refused before anything is done.

    Args:
      writes: "folder" or "file" if that is what is made there: then it must be possible.
      hub: an id of the Hugging Face hub will do as well.
    """
    return flags.DEFINE(_PathParser(writes, hub), name, default, text, serializer=flags.ArgumentSerializer(), **options)


def define_paths(name: str, default: list[str] | None, text: str, **options: Any) -> flags.FlagHolder:
    """A flag that is a list of paths, comma-separated; each as of ``define_path``."""
    return flags.DEFINE(_PathsParser(), name, default, text, serializer=flags.CsvListSerializer(","), **options)


def define_settings(
    cls: type,
    *,
    defaults: Mapping[str, Any] | None = None,
    given_only: bool = False,
    flag_values: flags.FlagValues = flags.FLAGS,
) -> dict[str, flags.FlagHolder]:
    """A flag for every field of a settings class that has an ``Option`` (``core.settings``), with its range.

    Args:
      defaults: {field: default} where it is another than the Option's.
      given_only: a flag that is not given is None instead of the value by default.

    Returns:
      {name of the field: its flag}.
    """
    rows, found = settings.rows(cls), {}
    for name, option in settings.options(cls).items():
        default = None if given_only else (defaults or {}).get(name, option.default)
        text = f"{option.text}; {option.default} if not given" if given_only else option.text
        found[name] = _define(name, rows[name], default, text, flag_values)
    return found


def _define(name: str, row: Any, default: Any, text: str, flag_values: flags.FlagValues) -> flags.FlagHolder:
    where = {"flag_values": flag_values}
    if isinstance(row, ranges.Place):
        return define_path(name, default, text, hub=row.hub, **where)
    if isinstance(row, ranges.Flag):
        return flags.DEFINE_bool(name, default, text, **where)
    if isinstance(row, ranges.Choice):
        return flags.DEFINE_enum(name, default, row.words, text, **where)
    if isinstance(row, ranges.Number):
        return flags.DEFINE(_number_parser(row), name, default, text, serializer=flags.ArgumentSerializer(), **where)
    if isinstance(row, ranges.Many):
        return flags.DEFINE_list(name, None if default is None else list(map(str, default)), text, **where)
    return flags.DEFINE_string(name, default, text, **where)


def _number_parser(row: ranges.Number) -> flags.ArgumentParser:
    kind = flags.IntegerParser if row.whole else flags.FloatParser

    class Parser(kind):
        def is_outside_bounds(self, val) -> bool:
            return math.isfinite(val) and row.problem(val) is not None  # core.flag_checks refuses the others

    return Parser(*row.bounds)


def say_error(message: object) -> None:
    """One line on stderr, a line of its own even where a progress bar was being drawn."""
    _close_bars()
    if isinstance(message, BaseException):
        message = str(message) or type(message).__name__
    if sys.stderr is not None:  # without one, print would write to stdout
        with contextlib.suppress(OSError):
            print(f"error: {shown(message).removeprefix('error: ')}", file=sys.stderr, flush=True)


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints one line and exits."""
    say_error(message)
    sys.exit(code)


def parse(argv: Sequence[str]) -> Sequence[str]:
    """absl's parser and ``core.flag_checks``; ends the process with one line where a flag cannot be meant."""
    try:
        rest = flags.FLAGS(argv)
        flag_checks.check(flags.FLAGS)
        return rest
    except SystemExit:  # --help and its sisters, which end with 1: to have asked for help is no failure
        sys.exit(0)
    except (AttributeError, KeyError) as error:  # ml_collections: an override of a key that does not exist
        fail(_unknown_key(error))
    except (flags.Error, ValueError, OSError, TypeError) as error:
        fail(_MISSING.sub(r"\1 is missing", str(error)))


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Parses absl flags, then runs ``main``, whose exit code may be what it returns; neither shows a traceback for what a
    user can mend."""

    def guarded(argv):
        _quiet_logging()
        signals.raise_once()
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; every option is written --name=value, see --help")
        try:
            code = main(argv)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where it can still be said that nobody reads it or the disk is full
            return code
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except USER_ERRORS as error:
            if flags.FLAGS.traceback:
                raise
            _give_up_output()
            fail("the output goes nowhere: what read it has ended" if isinstance(error, BrokenPipeError) else error, 1)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of fewer letters is no reason to fail
    try:
        app.run(guarded, flags_parser=parse)
    except SystemExit as end:
        if end.code:
            _be_silent()
        raise


def _close_bars() -> None:
    """A bar that is open would be drawn once more when its loop is cleared away."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        for bar in list(getattr(tqdm, "_instances", ())):
            bar.close()


def _give_up_output() -> None:
    """What cannot be printed now, as into ``| head``, cannot when Python ends either, and would be said after the error."""
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        _redirect(sys.stdout, 1)


def _be_silent() -> None:
    """After the error nothing more is said: not by threads, not by libraries that are cleared away."""
    _redirect(sys.stderr, 2)


def _redirect(stream: Any, descriptor: int) -> None:
    """Lets a standard stream lead nowhere, if it is the process's own."""
    with contextlib.suppress(OSError, AttributeError, io.UnsupportedOperation):
        if stream.fileno() == descriptor:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _quiet_logging() -> None:
    """Our own messages, one plain line each on stderr; of the libraries only what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("absl", "jax", "orbax", "grain", "websockets", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _unknown_key(error: Exception) -> str:
    """ml_collections' message without the list of every other key."""
    text = str(error)
    near = re.search(r'Did you mean "(\w+)" instead of "([\w.]+)"', text)
    if near:
        return f"unknown configuration key {near.group(2)!r}; did you mean {near.group(1)!r}?"
    return f"unknown configuration key: {text.splitlines()[0]}; configs/base.py declares every key"
