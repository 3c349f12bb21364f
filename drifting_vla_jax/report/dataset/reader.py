"""The low-dimensional part of a data set, episode by episode, as the checks and the pages read it.

T is the number of time steps. All of it is in memory (a million steps are 100 MB); images stay on disk.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from drifting_vla_jax.data.dataset import DataSet, read_metadata
from drifting_vla_jax.envs.base import ACTION_NAMES

Key = tuple[str, int]  # (split, episode): what names an episode on the page


@dataclass(frozen=True)
class Demonstration:
    """One episode without its images.

    Attributes:
      split, index: "train" or "val", and the episode's number there.
      instructions: every paraphrase.
      state: float32 [T, s]; the first three entries are the end effector's position (m, world).
      actions: float32 [T, 8], targets one step ahead: x y z (m, world), qx qy qz qw, gripper (0 closed .. 1 open).
      first: row of its first step in the split's arrays and records.
    """

    split: str
    index: int
    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    state: Float[np.ndarray, "T s"]
    actions: Float[np.ndarray, "T 8"]
    first: int

    @property
    def key(self) -> Key:
        return self.split, self.index

    def __len__(self) -> int:
        return len(self.state)


def open_data(path: Path) -> DataSet:
    """The data set of a folder with all of its cameras.

    Raises:
      FileNotFoundError: there is none.
      ValueError: its actions are not those of one end effector, of which checks and pages speak.
    """
    metadata = read_metadata(path)
    if metadata["action_names"] != list(ACTION_NAMES):
        raise ValueError(
            f"data set {path} has actions {', '.join(metadata['action_names'])}; this page is about one end effector's: "
            f"{', '.join(ACTION_NAMES)}"
        )
    return DataSet(path, metadata["cameras"])


def read_demonstrations(
    data: DataSet, splits: Sequence[str] = (), tasks: Sequence[str] = ()
) -> tuple[Demonstration, ...]:
    """Every episode of the given splits and tasks; none given is all of them.

    Raises:
      ValueError: a split or a task that the data set does not have (the nearest name is offered), or none of both.
    """
    there = list(data.metadata["episodes"])
    for kind, asked, known in (("split", splits, there), ("task", tasks, data.tasks)):
        for name in asked:
            if name not in known:
                raise ValueError(
                    f"data set {data.folder} has no {kind} {name!r}; nearest is {nearest(name, known)!r}, "
                    f"it has {', '.join(known)}"
                )
    found = itertools.chain.from_iterable(_split(data, split) for split in splits or there)
    chosen = tuple(episode for episode in found if not tasks or episode.task in tasks)
    if not chosen:
        raise ValueError(f"data set {data.folder} has no episode of {', '.join(tasks)} in {', '.join(splits or there)}")
    return chosen


def _split(data: DataSet, split: str) -> Iterator[Demonstration]:
    arrays, first = data.split(split), 0
    for index, about in enumerate(data.metadata["episodes"][split]):
        rows = slice(first, first + about["length"])
        yield Demonstration(
            split=split,
            index=index,
            task=about["task"],
            variation=about["variation"],
            seed=about["seed"],
            instructions=tuple(data.instructions[i] for i in about["instructions"]),
            state=arrays.state[rows],
            actions=arrays.actions[rows],
            first=first,
        )
        first += about["length"]


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name that was probably meant."""
    return (difflib.get_close_matches(name, known, 1) or list(known))[0]


def by_task(episodes: Sequence[Demonstration]) -> dict[str, list[Demonstration]]:
    """Episodes of every task, in order of first appearance."""
    groups: dict[str, list[Demonstration]] = {}
    for episode in episodes:
        groups.setdefault(episode.task, []).append(episode)
    return groups
