"""Plug-ins by name: what the package brings has a short name, everything else an import path ``module:attribute``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from drifting_vla_jax.core.suggest import did_you_mean


class PluginError(ValueError):
    """A plug-in that cannot be loaded; the message says what was asked for and what to do."""


def is_path(name: str) -> bool:
    """Whether a name is an import path, and not a name of the package, a file or a hub id."""
    return re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", name) is not None


def load(kind: str, known: Mapping[str, str], name: str) -> Any:
    """Imports a plug-in.

    Args:
      kind: what it is, for messages: "objective", "simulator", ...
      known: {name: "module:attribute"} of those in the package.
      name: one of these names, or an import path such as ``my_lab.my_file:MyObjective``.

    Raises:
      PluginError: no such name, module or attribute.
    """
    if ":" not in name and name not in known:
        raise PluginError(
            f"unknown {kind} {name!r}; {did_you_mean(name, known, 'expected one of')}; your own is written module:name, "
            "for example my_lab.my_file:MyClass"
        )
    module_name, _, attribute = known.get(name, name).partition(":")
    if not module_name or module_name.startswith("."):
        raise PluginError(f"{kind} {name!r} is no import path; expected module:name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise PluginError(
                f"{kind} {name!r}: there is no module {error.name!r}; it is looked for in the current directory and on PYTHONPATH"
            ) from error
        raise
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        names = [n for n in vars(module) if not n.startswith("_")]
        raise PluginError(
            f"{kind} {name!r}: module {module_name} has no {attribute!r}; {did_you_mean(attribute, names, 'it has')}"
        ) from error
