"""Objectives by name or import path, and how one is built from the configuration.

config.objective.name = "drifting"                     its settings: config.objective.drifting
config.objective.name = "my_lab.my_file:MyObjective"   its settings: config.objective.<MyObjective.section>
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drifting_vla_jax.core.action_layout import ActionLayout, layout_of
from drifting_vla_jax.core.registry import PluginError, load
from drifting_vla_jax.core.settings import SettingsError, read
from drifting_vla_jax.objectives.base import Objective, Sizes

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from drifting_vla_jax.objectives.drifting.objective import Drifting

OBJECTIVES = {
    "drifting": "drifting_vla_jax.objectives.drifting.objective:Drifting",
    "flow_matching": "drifting_vla_jax.objectives.flow_matching:FlowMatching",
    "regression": "drifting_vla_jax.objectives.regression:Regression",
}


def make_objective(config: ConfigDict) -> Objective:
    """Builds what ``config.objective.name`` names, with the settings of its section.

    Raises:
      PluginError, SettingsError: there is no such objective, or its settings cannot be meant.
    """
    return _build(config.objective.name, config)


def make_field(config: ConfigDict) -> Drifting:
    """The drifting field that validation draws at any policy's samples, however trained: ``config.objective.drifting``."""
    return _build("drifting", config)


def problems(config: ConfigDict) -> Iterator[str]:
    """What is wrong with the settings of the chosen objective and of those in the package, by themselves: a line each."""
    own = config.objective.name
    for name in dict.fromkeys((*OBJECTIVES, own) if isinstance(own, str) else OBJECTIVES):
        try:
            _settings(name, config)
        except (PluginError, SettingsError) as error:
            yield str(error)


def _build(name: str, config: ConfigDict) -> Any:
    cls, settings = _settings(name, config)
    sizes = Sizes(
        noise_dim=config.model.noise_dim,
        horizon=config.action.horizon,
        batch_size=config.data.batch_size,
        tasks=len(config.env.tasks),
        summary_dim=config.model.width,
    )
    layout: ActionLayout = layout_of(config)
    return cls(settings, layout, sizes)


def _settings(name: str, config: ConfigDict) -> tuple[type[Objective], Any]:
    """The class of an objective, and its settings."""
    cls = load("objective", OBJECTIVES, name)
    if not (isinstance(cls, type) and issubclass(cls, Objective)):
        raise PluginError(f"objective {name!r} is no class derived from drifting_vla_jax.objectives.base.Objective")
    if cls.Settings is None:
        return cls, None
    section = name if name in OBJECTIVES else cls.section
    if not section:
        raise PluginError(
            f"objective {name!r} has Settings but no section; set the class attribute, for example section = 'mine'"
        )
    if section not in config.objective:
        raise SettingsError(
            f"config.objective.{section} is missing; objective {name!r} reads its settings there: add it to a configuration of "
            "your own"
        )
    return cls, read(cls.Settings, config.objective[section], f"config.objective.{section}")
