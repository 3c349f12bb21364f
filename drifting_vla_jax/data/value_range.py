"""How far from the training data a number may be before it is taken for a mistake: of a unit, a sensor, a network.

A number may lie five times the width of its training data beyond their ends, and always a meter (positions) or a whole
turn (everything else). So a wrist that never turned in the data may turn, a gripper that never closed may close;
millimeters for meters, degrees for radians and 3e30 are outside. Checkpoints that do not know the ends of their data
have a hundred standard deviations around the mean instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from drifting_vla_jax.core.action_layout import ActionLayout
    from drifting_vla_jax.data.normalization import ActionNormalizer

WIDTHS = 5.0  # of the training data, beyond their ends
DEVIATIONS = 100.0  # where the ends are not known: sqrt(n) is the most that one of n rows can have
LEAST = {"position": 1.0}  # meters; an entry of any other kind:
LEAST_ELSE = 2 * math.pi
_UNITS = {"position": ("millimeters", 1e-3), "joints": ("degrees", math.pi / 180)}  # that are met instead, of ours


@dataclass(frozen=True)
class Ranges:
    """The ends of the training data, least and greatest.

    Attributes:
      state: [2 s].
      actions: [2 a] in network coordinates (not normalised), of all steps of a chunk.
    """

    state: Float[np.ndarray, "2 s"]
    actions: Float[np.ndarray, "2 a"]

    def to_json(self) -> dict:
        return {"state": self.state.tolist(), "actions": self.actions.tolist()}

    @classmethod
    def from_json(cls, data: dict) -> Ranges:
        return cls(np.array(data["state"]), np.array(data["actions"]))


class Bounds:
    """What a policy takes as a state and gives as an action, from the statistics of one data set."""

    def __init__(self, space: ActionNormalizer, state_names: Sequence[str] = ()):
        """Args:
        space: of one data set.
        state_names: of the state's entries, for messages; "" or none where nobody knows them.
        """
        layout, ranges = space.layout, space.ranges
        kinds, self._targets = _entries(layout)
        present = [p.kind for p in layout.parts if p.present for _ in range(p.width)]
        self._kinds = present + ["other"] * (len(space.state_mean) - len(present))
        self._names = list(state_names)
        self._state = _Interval.around(
            space.state_mean[None], space.state_std[None], self._kinds, ranges and ranges.state
        )
        self._actions = _Interval.around(space.mean, space.std, kinds, ranges and ranges.actions)
        self._mean, self._std = space.mean, space.std

    def check_state(self, state: Float[np.ndarray, " s"]) -> None:
        """Raises ValueError, one line that names the entry, if a state (not normalised) cannot be a sensor's.

        A state that is not finite cannot be either.
        """
        outside = np.flatnonzero(~self._state.holds(state))
        if not outside.size:
            return
        i = int(outside[0])
        name = f' "{self._names[i]}"' if i < len(self._names) and self._names[i] else ""
        unit, size = _UNITS.get(self._kinds[i], ("", math.inf))
        hint = f"; is it in {unit}?" if unit and self._state.near(i, state[i] * size) else ""
        more = f" ({outside.size} entries are far outside)" if outside.size > 1 else ""
        raise ValueError(f"state[{i}]{name} is {state[i]:g}, {self._state.said(i)}{hint}{more}")

    def unsound(self, chunks: Float[np.ndarray, "n h a"]) -> str | None:
        """What is wrong with chunks in network units, in one line; None if they can be executed."""
        if not np.isfinite(chunks).all():
            return "the policy's actions are not finite"
        outside = np.argwhere(~self._actions.holds(chunks * self._std + self._mean))
        if not len(outside):
            return None
        row, step, i = (int(x) for x in outside[0])
        value = chunks[row, step, i] * self._std[step, i] + self._mean[step, i]
        return (
            f'the policy\'s target {step} of the chunk has "{self._targets[i]}" = {value:g}, {self._actions.said(i)}; '
            "it must not be executed"
        )


@dataclass(frozen=True)
class _Interval:
    """Where numbers may lie, [k] each: the training data (``ends`` known or not) and how far beyond them is allowed."""

    low: np.ndarray
    high: np.ndarray
    slack: np.ndarray
    known: bool

    @classmethod
    def around(cls, mean: np.ndarray, std: np.ndarray, kinds: Sequence[str], ends: np.ndarray | None) -> _Interval:
        """``mean`` and ``std``: [h k], each entry's at every step."""
        least = np.array([LEAST.get(kind, LEAST_ELSE) for kind in kinds])
        if ends is not None:
            return cls(ends[0], ends[1], np.maximum(WIDTHS * (ends[1] - ends[0]), least), True)
        return cls(mean.min(0), mean.max(0), np.maximum(DEVIATIONS * std.max(0), least), False)

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Which of [... k] may be; what is not finite may not."""
        return (values >= self.low - self.slack) & (values <= self.high + self.slack)

    def near(self, i: int, value: float) -> bool:
        """Whether a value could be one of the training data."""
        width = self.slack[i] / 4
        return bool(self.low[i] - width <= value <= self.high[i] + width)

    def said(self, i: int) -> str:
        if self.known:
            return f"the training data lie in {self.low[i]:.4g} .. {self.high[i]:.4g}"
        return f"at most {self.slack[i]:.4g} from the training data's mean {self.low[i]:.4g} was expected"


def _entries(layout: ActionLayout) -> tuple[list[str], list[str]]:
    """Kind and name of every number of an action in the network."""
    kinds, names = [], []
    for part in layout.parts:
        kinds += [part.kind] * part.width
        said = layout.names[part.boundary]
        names += said if len(said) == part.width else [f"{part.name} {i}" for i in range(part.width)]
    return kinds, names
