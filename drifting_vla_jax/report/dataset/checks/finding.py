"""What a check returns, and how it tells what is unlike the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from drifting_vla_jax.report.dataset.reader import Demonstration, Key

if TYPE_CHECKING:
    from drifting_vla_jax.report.dataset.images import Seen

# A value is unlike the rest from so many robust standard deviations. Six, because experts' speeds have long tails: the fastest
# ordinary steps of scripted experts lie at 1 to 4, a drawer or a door that snaps throws the hand to 5 to 12.
UNLIKE = 6.0


@dataclass(frozen=True)
class Finding:
    """One place where a check found something.

    Attributes:
      text: what was found there, with the number and its unit.
      task: whose episodes; of a finding about one episode, its task.
      episode: (split, number); None where the finding is about a whole task.
      step: the first time step of it; None where it is about the whole episode.
      size: how bad, comparable within one check alone: the page shows the worst first.
    """

    text: str
    task: str
    episode: Key | None = None
    step: int | None = None
    size: float = 0.0


@dataclass(frozen=True)
class Facts:
    """What checks know beside the arrays.

    Attributes:
      control_hz: steps per second.
      state_names: what each entry of the state is.
      seen: {(split, number): {camera: Seen}} of the episodes whose images were looked at.
    """

    control_hz: float
    state_names: tuple[str, ...]
    seen: Mapping[Key, Mapping[str, Seen]] = field(default_factory=dict)


def at(episode: Demonstration, text: str, step: int | None = None, size: float = 0.0) -> Finding:
    """A finding in one episode."""
    return Finding(text, episode.task, episode.key, None if step is None else int(step), float(size))


def robust(values: np.ndarray, least: float) -> tuple[float, float]:
    """(median, spread) of values [n], both blind to a few outliers.

    The spread is a standard deviation: the larger of 1.4826 MAD and (90 % quantile - median) / 1.28. The second one keeps
    demonstrations that mostly stand still (MAD 0) from making every move an outlier. ``least``: never below this.
    """
    if not len(values):
        return 0.0, least
    median, high = np.quantile(values, [0.5, 0.9])
    mad = np.median(np.abs(values - median))
    return float(median), float(max(1.4826 * mad, (high - median) / 1.28, least))


def first_and_worst(sizes: np.ndarray, bad: np.ndarray) -> tuple[int, float, int] | None:
    """(first bad step, the worst size, how many) of sizes [T] where bad [T]; None where none is."""
    steps = np.flatnonzero(bad)
    return (int(steps[0]), float(np.max(sizes[steps])), len(steps)) if len(steps) else None


def times(count: int) -> str:
    """ "", or ", 3 steps in all": what follows the first place of several in an episode."""
    return f", {count} steps in all" if count > 1 else ""
