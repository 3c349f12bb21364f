"""How every command ends: bad input becomes one line on stderr and a non-zero exit; a bug keeps its traceback."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags

from drifting_vla_jax.core import flag_checks
from drifting_vla_jax.core.text import shown

# What a user can cause: wrong values, missing files, unreachable servers, full disks, simulators that do not start.
USER_ERRORS = (ValueError, OSError, RuntimeError, ModuleNotFoundError)

flags.DEFINE_bool("traceback", False, "on an error, show where it came from")


def fail(message: object, code: int = 2) -> NoReturn:
    """Prints one line and exits."""
    print(f"error: {shown(message)}", file=sys.stderr)
    sys.exit(code)


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Parses absl flags, then runs ``main``; neither shows a traceback for what a user can mend."""

    def parse(argv):
        try:
            rest = flags.FLAGS(argv)
            flag_checks.check(flags.FLAGS)
            return rest
        except SystemExit:  # --help and its sisters, which end with 1: to have asked for help is no failure
            sys.exit(0)
        except (AttributeError, KeyError) as error:  # ml_collections: an override of a key that does not exist
            fail(_unknown_key(error))
        except (flags.Error, ValueError, OSError, TypeError) as error:
            fail(error)

    def guarded(argv):
        _quiet_logging()
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}; every option is written --name=value, see --help")
        try:
            main(argv)
        except KeyboardInterrupt:
            fail("interrupted", 130)
        except USER_ERRORS as error:
            if flags.FLAGS.traceback:
                raise
            fail(error, 1)

    app.run(guarded, flags_parser=parse)


def _quiet_logging() -> None:
    """Our own messages, one plain line each on stderr; of the libraries only what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("absl", "jax", "orbax", "grain", "websockets"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _unknown_key(error: Exception) -> str:
    """ml_collections' message without the list of every other key."""
    text = str(error)
    near = re.search(r'Did you mean "(\w+)" instead of "([\w.]+)"', text)
    if near:
        return f"unknown configuration key {near.group(2)!r}; did you mean {near.group(1)!r}?"
    return f"unknown configuration key: {text.splitlines()[0]}; configs/base.py declares every key"
