"""Data sources by name, or from outside the package by import path: ``my_lab.my_file:MySource``. See ``base.Source``.

A simulator with scripted experts is a source, too: by its own name or import path.
"""

from __future__ import annotations

from drifting_vla_jax.core import registry
from drifting_vla_jax.data.sources.base import Source

# Imported only when asked for.
SCRIPTED = "drifting_vla_jax.data.sources.scripted_source:Scripted"
SOURCES = {
    "metaworld": SCRIPTED,
    "robosuite": SCRIPTED,
    "peract": "drifting_vla_jax.data.sources.rlbench.source:Peract",
    "lerobot": "drifting_vla_jax.data.sources.lerobot.source:LeRobot",
    "rlds": "drifting_vla_jax.data.sources.rlds.reader:Rlds",
    "rollouts": "drifting_vla_jax.data.sources.rollouts:RecordedRollouts",
}


def load(name: str) -> Source:
    """The source of this name or import path; raises PluginError if there is none."""
    found = registry.load("data source", SOURCES, name)
    if getattr(getattr(found, "info", None), "build", None) is not None:  # a simulator with experts
        found = registry.load("data source", {}, SCRIPTED)  # of its own name
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise registry.PluginError(
            f"data source {name!r} is {found!r:.100}; expected a class derived from {Source.__module__}.{Source.__name__}, or a "
            "simulator whose info has build"
        )
    return found(name)
