"""Success as numbers of a table: rates with 95% intervals, of episodes, of groups of tasks, of pairs of episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drifting_vla_jax.evaluate.compare import Paired, compare
from drifting_vla_jax.evaluate.statistics import wilson_interval
from drifting_vla_jax.report.run.reader import Evaluation

PUBLISHED_EPISODES = 10  # of each task, in the protocol of others


@dataclass(frozen=True)
class Rate:
    """A share of episodes, 0 to 1, with its 95% interval.

    Attributes:
      episodes: "45 / 50"; "" of a mean.
      more: what else belongs to it: "latched 92.0".
      colour: number of the entry.
    """

    value: float
    low: float
    high: float
    episodes: str = ""
    more: str = ""
    colour: int = 0

    @classmethod
    def of(cls, successes: int, n: int, more: str = "", colour: int = 0) -> Rate:
        """Wilson's interval; n >= 1."""
        return cls(successes / n, *wilson_interval(successes, n), f"{successes} / {n}", more, colour)

    def __str__(self) -> str:
        text = f"{100 * self.value:.1f} ({100 * self.low:.1f} - {100 * self.high:.1f})"
        return f"{text}, {self.more}" if self.more else text


def counted(evaluation: Evaluation) -> list[dict]:
    """The episodes that its results count and that say something about the policy, by task and seed."""
    episodes = []
    for name, task in evaluation.tasks.items():
        of_task = sorted((e for e in evaluation.episodes if e["task"] == name), key=lambda e: e["seed"])
        episodes += of_task[: task["n"] + task["unscored"]]
    return [episode for episode in episodes if episode["success"] is not None]


def rate(episodes: Sequence[dict], key: str = "success", more: str = "", colour: int = 0) -> Rate | str:
    """Of episodes that all count; "-" of none."""
    return Rate.of(sum(e[key] for e in episodes), len(episodes), more, colour) if episodes else "-"


def first_of_each(episodes: Sequence[dict], count: int) -> list[dict]:
    """The first ``count`` episodes of every task."""
    seen: dict[str, int] = {}
    chosen = []
    for episode in episodes:
        seen[episode["task"]] = seen.get(episode["task"], 0) + 1
        if seen[episode["task"]] <= count:
            chosen.append(episode)
    return chosen


def mean_of(rates: Sequence[Rate], colour: int = 0) -> Rate:
    """The mean of independent rates, each weighing the same. Its interval joins theirs (MOVER, Zou and Donner 2008):
    with w = 1 / k, low = mean - sqrt(sum (w (p_i - l_i))^2), high = mean + sqrt(sum (w (u_i - p_i))^2)."""
    mean = sum(r.value for r in rates) / len(rates)
    below = math.sqrt(sum((r.value - r.low) ** 2 for r in rates)) / len(rates)
    above = math.sqrt(sum((r.high - r.value) ** 2 for r in rates)) / len(rates)
    return Rate(mean, mean - below, mean + above, colour=colour)


def paired(a: Evaluation | None, b: Evaluation | None) -> dict[str, Paired]:
    """``compare.compare``, B less A; nothing where one is missing or they have no episode under the same rules in common."""
    if a is None or b is None:
        return {}
    try:
        return compare(a.folder, b.folder)
    except ValueError:  # other rules, or no start in common
        return {}


def difference(pairs: Paired) -> str:
    """B less A, in points, with Newcombe's 95% interval."""
    low, high = pairs.interval()
    return f"{100 * pairs.difference:+.1f} ({100 * low:+.1f} .. {100 * high:+.1f})"
