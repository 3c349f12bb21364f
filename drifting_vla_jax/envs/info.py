"""What the rest of the project has to know about a simulator before it runs: the class attribute ``info`` of its class.

It is read without the simulator's own packages: by checks of a configuration, by ``data.build``, by evaluations and reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Perturbation:
    """A change of the scene that no demonstration shows, for an evaluation of its own (``evaluate.conditions``).

    Attributes:
      about: what is different, for a reader.
      options: values of the simulator's own settings.
    """

    about: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """Results that others publish on a simulator's tasks, for the page of results.

    Attributes:
      note: what the table says above its rows.
      protocol: how their evaluations differ from ours, in brackets behind "Latched: true at any of at most N simulator steps".
      rows: policy, parameters, success (percent), protocol, source, standing.
    """

    note: str
    protocol: str
    rows: tuple[tuple[str, ...], ...]


class StoredEpisode(Protocol):
    """A recorded demonstration."""

    def actions(self) -> np.ndarray:
        """Absolute targets, [t, 8]."""
        ...


class StoredEpisodes(Protocol):
    """Recorded demonstrations that episodes can start from; a module with these functions will do."""

    def variation(self, root: Path, task: str, number: int, /) -> int:
        """The variation of a task that episode ``number`` below ``root`` shows."""
        ...

    def load(self, root: Path, task: str, number: int, /) -> StoredEpisode: ...


@dataclass(frozen=True)
class EnvInfo:
    """A simulator as others see it.

    Attributes:
      title: its name as people write it.
      tasks: those that it is known to have.
      cameras: views that it can render.
      state_names: what each entry of the state is.
      simulator_hz: simulator steps per second of simulated time.
      skips_steps: whether an action may last several simulator steps; if not, config.env.frame_skip is 1.
      fixed_state: whether config.env.state_dim must be the length of ``state_names`` even to train.
      extra: the extra of this package that installs it: pip install 'drifting-vla-jax[EXTRA]'; empty: none is needed.
      packages: whose versions an episode depends on.
      build: defaults of ``data.build`` for cameras, image_size, frame_skip and action_noise, where the simulator has
        scripted experts (``ScriptedEnv``); None: it has none.
      task_groups: groups of tasks over which its literature averages, in the order of a table.
      perturbations: evaluations of scenes unlike those of demonstrations, by name.
      stored: recorded demonstrations that an episode can start from (``demos``); None: there are none.
      published: what others publish; None: nothing is known.
    """

    title: str
    tasks: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    simulator_hz: float = 0.0
    skips_steps: bool = True
    fixed_state: bool = False
    extra: str = ""
    packages: tuple[str, ...] = ()
    build: Mapping[str, Any] | None = None
    task_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    perturbations: Mapping[str, Perturbation] = field(default_factory=dict)
    stored: StoredEpisodes | None = None
    published: Published | None = None

    def problems(self, frame_skip: int, state_dim: int) -> Iterator[str]:
        """What is wrong with the keys ``frame_skip`` and ``state_dim`` of config.env."""
        if not self.skips_steps and frame_skip != 1:
            yield f"config.env.frame_skip is {frame_skip}; {self.title} has no steps to skip: expected 1"
        if self.fixed_state and state_dim != len(self.state_names):
            yield (
                f"config.env.state_dim is {state_dim}; {self.title}'s state has {len(self.state_names)} numbers: "
                f"expected {len(self.state_names)}"
            )
