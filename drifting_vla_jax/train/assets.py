"""What a checkpoint knows besides arrays, as JSON: enough to act without any other file.

Of a mixture it remembers every set, and acts for one of them at a time (``of_set``): with that set's statistics, cameras
and rate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from ml_collections import ConfigDict

from drifting_vla_jax import __version__
from drifting_vla_jax.config.io import config_hash, from_json, to_json
from drifting_vla_jax.core.action_layout import layout_of
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.identity import Identity
from drifting_vla_jax.data.mixture import Mixture
from drifting_vla_jax.data.normalization import ActionNormalizer, ActionSpaces
from drifting_vla_jax.types import is_mixture, set_names


@dataclasses.dataclass(frozen=True)
class SetAssets:
    """What is remembered of one set of a mixture.

    Attributes:
      name: the last part of its path.
      cameras, tasks: those of the configuration's that it has.
      actions, prompts, control_hz, state_names, data: as in ``Assets``.
    """

    name: str
    cameras: tuple[str, ...]
    tasks: tuple[str, ...]
    actions: ActionNormalizer
    prompts: tuple[str, ...]
    control_hz: float
    state_names: tuple[str, ...]
    data: Identity | None = None

    def to_json(self) -> dict:
        return {**vars(self), "actions": self.actions.to_json(), "data": self.data and self.data.to_json()}

    @classmethod
    def from_json(cls, data: dict) -> SetAssets:
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        own = {"actions": ActionNormalizer.from_json(data["actions"]), "data": Identity.from_json(data.get("data"))}
        return cls(**plain | own)


@dataclasses.dataclass(frozen=True)
class Assets:
    """See the module's docstring.

    Attributes:
      config: of the run.
      actions: normalisation statistics.
      prompts: training instructions.
      control_hz: actions per second; of keyframes, which have no rate, that of the data.
      state_names: what each entry of proprioception is.
      encoders: identity of each encoder: "scratch", or hub id and weight hash.
      written_hash: of the configuration as the checkpoint has it, perhaps in older keys than ``config``; "": of none.
      data: what the data set held; None of an older checkpoint, and of a mixture, whose sets each have their own.
      sets: of a mixture, all of its sets; the four fields above are then those of the set that it acts for.
      acting: of a mixture, the name of that set.
    """

    config: ConfigDict
    actions: ActionNormalizer
    prompts: tuple[str, ...]
    control_hz: float
    state_names: tuple[str, ...]
    encoders: dict[str, str]
    sets: tuple[SetAssets, ...] = ()
    acting: str = ""
    data: Identity | None = None
    written_hash: str = ""

    def of_set(self, name: str = "") -> Assets:
        """The assets to act for a set of a mixture; "": for the one they are for already.

        Raises:
          ValueError: there is no such set.
        """
        known = {each.name: each for each in self.sets}
        if not name or name == self.acting:
            return self
        if name not in known:
            there = f"has learned from {', '.join(known)}" if known else "has learned from one data set"
            raise ValueError(f"config.serve.dataset is {name!r}; the policy {there}")
        chosen = {key: getattr(known[name], key) for key in ("actions", "prompts", "control_hz", "state_names")}
        return dataclasses.replace(self, acting=name, **chosen)

    @property
    def cameras(self) -> tuple[str, ...]:
        """The views that are there where it acts."""
        return self._set().cameras if self.acting else tuple(self.config.env.cameras)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it has learned to do where it acts."""
        return self._set().tasks if self.acting else tuple(self.config.env.tasks)

    @property
    def views(self) -> Bool[np.ndarray, " v"] | None:
        """Which of the network's views are there, earlier ones included; None: all."""
        there = np.array([camera in self.cameras for camera in self.config.env.cameras])
        return None if there.all() else np.tile(there, 1 + self.config.model.history)

    def _set(self) -> SetAssets:
        return next(each for each in self.sets if each.name == self.acting)

    def spaces(self, config: ConfigDict) -> ActionNormalizer | ActionSpaces:
        """The statistics to go on training with.

        Raises:
          ValueError: the configuration is of other sets, or of actions of another layout.
        """
        if layout_of(config) != self.actions.layout:
            raise ValueError(
                f"the checkpoint has learned actions of layout {self.actions.layout}, the configuration's is "
                f"{layout_of(config)}; change config.action.layout, joints and grippers or start in another --workdir"
            )
        wanted, known = set_names(config), {each.name: each.actions for each in self.sets}
        if set(wanted) - set(known) or is_mixture(config) != bool(known):
            raise ValueError(
                f"the checkpoint has statistics of {', '.join(known) or 'one data set'}, config.data.mixture.paths names "
                f"{', '.join(wanted) or 'none'}; go on with those sets or start in another --workdir"
            )
        return ActionSpaces(tuple(known[name] for name in wanted)) if wanted else self.actions

    def to_json(self) -> dict:
        more = {"sets": [each.to_json() for each in self.sets], "acting": self.acting} if self.sets else {}
        more |= {"data": self.data.to_json()} if self.data else {}
        return {
            "config": to_json(self.config),
            "config_hash": config_hash(self.config),
            "actions": self.actions.to_json(),
            "prompts": list(self.prompts),
            "control_hz": self.control_hz,
            "state_names": list(self.state_names),
            "encoders": self.encoders,
            "code_version": __version__,
            **more,
        }

    @classmethod
    def from_json(cls, data: dict) -> Assets:
        return cls(
            config=from_json(data["config"]),
            actions=ActionNormalizer.from_json(data["actions"]),
            prompts=tuple(data["prompts"]),
            control_hz=data["control_hz"],
            state_names=tuple(data["state_names"]),
            encoders=data["encoders"],
            sets=tuple(map(SetAssets.from_json, data.get("sets", []))),  # written for mixtures alone
            acting=data.get("acting", ""),
            data=Identity.from_json(data.get("data")),
            written_hash=data.get("config_hash", ""),
        )


def make_assets(
    config: ConfigDict,
    data: DataSet | Mixture,
    actions: ActionNormalizer | ActionSpaces,
    encoders: dict[str, str],
    identities: Sequence[Identity],
) -> Assets:
    """What a run's checkpoints are to know; of a mixture they act for ``config.serve.dataset``, or for its first set.

    ``identities``: of the data set, or of each set of the mixture.
    """
    if isinstance(data, DataSet):
        return Assets(config, actions, *_said(data, config), encoders, data=identities[0])
    sets = tuple(
        SetAssets(name, each.cameras, _of(config.env.tasks, each.tasks), space, *_said(each, config), identity)
        for name, each, space, identity in zip(data.names, data.sets, actions.sets, identities)
    )
    first = sets[0]
    assets = Assets(
        config, first.actions, first.prompts, first.control_hz, first.state_names, encoders, sets, first.name
    )
    return assets.of_set(config.serve.dataset)


def _said(data: DataSet, config: ConfigDict) -> tuple[tuple[str, ...], float, tuple[str, ...]]:
    """Instructions, actions per second, names of the state's entries."""
    rate, names = data.metadata["control_hz"] / config.action.stride, data.metadata["state_names"]
    return tuple(data.instructions), rate, tuple(names)


def _of(wanted, there) -> tuple[str, ...]:
    return tuple(name for name in wanted if name in there)
