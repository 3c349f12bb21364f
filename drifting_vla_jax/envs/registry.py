"""Simulators by name, or from outside the package by import path: ``my_lab.my_sim:MySim``.

A simulator is a class that is made with ``(cameras, image_size, frame_skip)`` and has the methods of ``envs.base.Env`` and a
class attribute ``info`` (``envs.info.EnvInfo``). One that has settings of its own has them as a dataclass in the class attribute
``Settings`` (see ``core.settings``; each field has an ``Option``, which says its value by default) and takes them as
``settings=``; in a configuration they stand in config.env.<section>: a simulator of this package's section is its name, that
of another the class attribute ``section``. One with ``info.stored`` takes ``demos=``, a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drifting_vla_jax.core import registry, settings
from drifting_vla_jax.envs.base import Env
from drifting_vla_jax.envs.info import EnvInfo, StoredEpisodes

# Imported only when asked for, and without the simulators' own packages.
ENVIRONMENTS = {
    "metaworld": "drifting_vla_jax.envs.metaworld.env:MetaWorld",
    "rlbench": "drifting_vla_jax.envs.rlbench.env:RLBench",
    "robosuite": "drifting_vla_jax.envs.robosuite.env:Robosuite",
    "dummy": "drifting_vla_jax.envs.dummy:Dummy",
}


def environment_class(name: str) -> Any:
    """The class of a simulator, whose packages need not be installed; raises PluginError for an unknown name."""
    return registry.load("simulator", ENVIRONMENTS, name)


def info(name: str) -> EnvInfo:
    """What is known of a simulator before it runs; raises PluginError for an unknown name, or what is no simulator."""
    found = getattr(environment_class(name), "info", None)
    if not isinstance(found, EnvInfo):
        raise registry.PluginError(f"{name} is no simulator: it has no class attribute info, an EnvInfo")
    return found


def info_if_known(name: object) -> EnvInfo:
    """The same for a report, of what a file says: of a simulator, or an arm, that is not here nothing but its name is known."""
    try:
        found = getattr(environment_class(name), "info", None) if isinstance(name, str) else None
    except (ImportError, registry.PluginError):
        found = None
    return found if isinstance(found, EnvInfo) else EnvInfo(str(name))


def settings_class(name: str) -> type | None:
    """The dataclass of a simulator's own settings, None: it has none."""
    return getattr(environment_class(name), "Settings", None)


def section(name: str) -> str:
    """Where a simulator's own settings stand below config.env."""
    return name if name in ENVIRONMENTS else getattr(environment_class(name), "section", "")


def read_options(name: str, env: Mapping[str, Any]) -> dict[str, Any]:
    """A simulator's own settings in the section ``env`` of a configuration, as options for ``make``.

    Raises:
      PluginError: there is no such simulator.
      SettingsError: keys are missing, unknown or cannot be.
    """
    cls, where = settings_class(name), section(name)
    if cls is None:
        return {}
    settings.require(where in env, f"config.env.{where} is missing: the settings of the simulator {name}")
    return settings.to_dict(settings.read(cls, env[where], f"config.env.{where}"))


def identity(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a simulator's options, given or not, that tell two evaluations apart.

    One that only its workers know, in a Python of their own, has no default values here.
    """
    try:
        cls = settings_class(name)
    except registry.PluginError:
        cls = None
    if cls is None:
        return dict(options)
    described = settings.options(cls)
    return {
        k: v for k, v in {**settings.defaults(cls), **options}.items() if k not in described or described[k].identity
    }


def changed_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them whose value is not the default one."""
    cls = settings_class(name)
    usual = settings.defaults(cls) if cls else {}
    return {key: value for key, value in identity(name, options).items() if value != usual.get(key)}


def stored_episodes(name: str) -> StoredEpisodes:
    """Reads a simulator's recorded demonstrations, which episodes can start from; raises ValueError: it has none."""
    stored = info(name).stored
    if stored is None:
        raise ValueError(f"{name} has no stored episodes to start from; leave demos empty")
    return stored


def make(
    name: str, *, cameras: Sequence[str], image_size: int, frame_skip: int, demos: str = "", **options: Any
) -> Env:
    """Builds a simulator by name.

    Args:
      name: one of ``ENVIRONMENTS``, or an import path.
      cameras: the views to render into observations, in order.
      image_size: height and width of every view, pixels.
      frame_skip: simulator steps per control step.
      demos: folder of stored episodes that episodes start from; empty: scenes are laid out by seed.
      options: the simulator's own settings; those not given are as by default.

    Raises:
      ValueError: unknown name, camera or option.
      ModuleNotFoundError: the simulator's package is not installed; the message has the pip line.
    """
    cls, own = environment_class(name), settings_class(name)
    known = settings.options(own) if own else {}
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; its options: {', '.join(sorted(known)) or 'none'}")
    more: dict[str, Any] = {}
    if own:
        more["settings"] = settings.read(own, settings.defaults(own) | options, name)
    if demos and stored_episodes(name):
        more["demos"] = demos
    return cls(cameras=tuple(cameras), image_size=image_size, frame_skip=frame_skip, **more)
