"""What a data source is: a class that turns demonstrations of one kind into episode files.

``data.build`` makes a flag of every field of its ``Settings`` that has an ``Option``, calls ``collect`` and writes the data set.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import numpy as np

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.ranges import PROCESSES, Choice, Many, Name, Number, whole
from drifting_vla_jax.core.settings import Option

S = TypeVar("S")
VAL_FRACTION = 0.1

# Fields that several sources have.
Tasks = Annotated[tuple[str, ...], Many(Name()), Option((), "names of tasks, comma-separated; default: all")]
Episodes = Annotated[int, whole(0, 1_000_000), Option(0, "episodes of each task, the first ones; 0: all")]
ImageSize = Annotated[
    int, whole(8, 4096, also=(0,)), Option(0, "height and width of every view, pixels; 0: as recorded")
]
Held = Annotated[
    float,
    Number(0.0, 1.0, "[)"),
    Option(VAL_FRACTION, "share of the episodes held out for validation, unless the input has splits of its own"),
]
OnError = Annotated[
    str, Choice(("fail", "skip")), Option("fail", "what a damaged episode does; skipped ones are left out and counted")
]
Workers = Annotated[int, PROCESSES, Option(2, "processes or threads that work at once")]


@dataclass(frozen=True)
class About:
    """What a data set says about itself (``metadata.json``).

    Attributes:
      source: where the episodes come from: the source's ``name``.
      cameras, image_size: views in order; pixels of a square side.
      state_names: what each entry of the state is; the first three are the end effector's position (m, world), or what
        the layout says.
      control_hz: steps per second.
      details: anything the source wants remembered: counts of failed episodes, the replay gate's figures; ``data.build`` adds
        the settings.
      layout: what the numbers of an action are.
    """

    source: str
    cameras: tuple[str, ...]
    image_size: int
    state_names: tuple[str, ...]
    control_hz: float
    details: Mapping[str, Any] = field(default_factory=dict)
    layout: ActionLayout = END_EFFECTOR


class Source(abc.ABC, Generic[S]):
    """A data source.

    Attributes:
      Settings: frozen dataclass; fields with an ``Option`` (``core.settings``) are flags of ``data.build``; a default of None
        must be given. ``__post_init__`` raises ValueError for settings that cannot be meant.
      name: under which it was asked for.
    """

    Settings: ClassVar[type]

    def __init__(self, name: str):
        self.name = name

    def defaults(self) -> Mapping[str, Any]:
        """Defaults of flags that are other than their Option's."""
        return {}

    def settings(self, values: Mapping[str, Any]) -> S:
        """The settings of these values of its flags; raises ValueError."""
        return self.Settings(**values)

    @abc.abstractmethod
    def collect(self, settings: S, out: Path) -> tuple[dict[str, list[Path]], About]:
        """Writes what is missing of the episodes (``core.episode.Episode``), each a file in OUT/.episodes.

        Returns:
          The files of the splits "train" and "val", and what the data set says about itself.

        Raises:
          ValueError: something is wrong with the demonstrations.
        """

    def content(self, settings: S, details: Mapping[str, Any]) -> dict | None:
        """Names what ``collect`` would take now: {"episodes": how many, "fingerprint": of all}; None: nobody can tell.

        A source that returns it has ``details["content"]`` likewise, of what it took; ``data.build`` compares the two.
        """
        return None

    def lines(self, details: Mapping[str, Any]) -> list[str]:
        """What ``data.build`` prints about a finished data set."""
        return []


def check_fraction(held_out: float) -> None:
    """Raises ValueError unless a share for validation leaves something to train on."""
    if not 0 <= held_out < 1:
        raise ValueError(f"val_fraction must be in 0 .. 1, 1 excluded; got {held_out}")


def check_undivided(source: str, settings: Any) -> None:
    """Raises ValueError if a share for validation was asked for although the input comes divided."""
    if settings.val_fraction != VAL_FRACTION:
        raise ValueError(f"{source} has train and val of its own: --val_fraction would mean nothing")


def held_out(count: int, fraction: float) -> list[bool]:
    """Which of ``count`` episodes are for validation: every n-th, and at least the last if a share was asked for."""
    ends = np.floor(np.arange(count + 1) * fraction + 1e-9)
    held = (np.diff(ends) > 0).tolist()
    if fraction and count > 1 and not any(held):
        held[-1] = True
    return held
