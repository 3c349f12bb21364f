"""What absl lets a flag be although nobody means it: NaN, an empty value, a list with a hole, text that is no text."""

from __future__ import annotations

import math

from absl import flags

from drifting_vla_jax.core import text


def check(values: flags.FlagValues) -> None:
    """Looks at every flag that the command line gave; overrides of the configuration have checks of their own.

    Raises:
      ValueError: names the flag, what came and what was expected.
    """
    for flag in values.flags_by_module_dict().values():
        for each in flag:
            if each.present and not each.name.startswith("config"):
                _check(each.name, each.value, each.default)


def _check(name: str, value: object, default: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"--{name}={value}: expected a finite number")
    if value in ("", []) and default not in ("", []):  # --out=$OUT, and there is no such variable
        raise ValueError(f"--{name} is given, but empty: give it a value or leave it out")
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str):
            continue
        if isinstance(value, list) and not entry.strip():
            raise ValueError(f"--{name}={text.shown(','.join(value), 200)} has an empty entry between its commas")
        wrong = text.problem(entry)
        if wrong:
            raise ValueError(f"--{name} {wrong}: {text.shown(repr(entry), 80)}")
