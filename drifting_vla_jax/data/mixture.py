"""Several data sets read as one: their rows one set after the other, each row knowing its set and which views it has.

    rows          set 0: 0 .. n0-1, set 1: n0 .. n0+n1-1, ...     ``Split.source`` [n] says which
    views         those of ``config.env.cameras``; what a set lacks is black and marked in ``Split.seen`` [n, v]
    tasks         all sets' together, a name means the same task in each
    instructions  likewise
    statistics    each set's own (``normalization.ActionSpaces``): a metre here is not a metre there

How often each set is shown is for ``sampling.MixedOrder``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.data.dataset import Cache, DataSet, Split, check_tasks, read_metadata
from drifting_vla_jax.data.normalization import ActionSpaces
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.types import is_mixture, set_names


def open_data(config: ConfigDict) -> DataSet | Mixture:
    """What ``config.data`` names, one set or several, found to be what the configuration expects.

    Raises:
      FileNotFoundError: a data set is missing.
      ValueError: one is of other cameras, image size, actions, state or tasks than the configuration.
    """
    dataset = Mixture(config) if is_mixture(config) else DataSet(config.data.path, config.env.cameras)
    dataset.check(config)
    return dataset


class Mixture:
    """The sets of ``config.data.mixture``, with what ``DataSet`` offers.

    Attributes:
      sets: each opened for those of the views that it has.
      names, weights: one per set.
      cameras: all views.
      path: for messages.
      tasks, instructions: of all sets, in order of first appearance.
    """

    def __init__(self, config: ConfigDict):
        """Opens all of them.

        Raises:
          FileNotFoundError: one is missing.
          ValueError: it has none of the views.
        """
        paths, self.cameras = config.data.mixture.paths, tuple(config.env.cameras)
        self.names, self.path = set_names(config), " + ".join(paths)
        self.weights = tuple(config.data.mixture.weights) or (1.0,) * len(paths)
        self.sets = tuple(_open(path, self.cameras) for path in paths)
        self.instructions = list(dict.fromkeys(text for each in self.sets for text in each.instructions))
        self.tasks = list(dict.fromkeys(task for each in self.sets for task in each.tasks))
        self._shown = tuple(range(len(self.sets)))

    @property
    def metadata(self) -> dict:
        """Of the one set that is shown, else what can be said of several: where they are from, and all episodes."""
        found = [self.sets[k].metadata for k in self._shown]
        if len(found) == 1:
            return found[0]
        splits = dict.fromkeys(name for about in found for name in about["episodes"])
        return {
            "source": " + ".join(dict.fromkeys(about["source"] for about in found)),
            "episodes": {s: [e for about in found for e in about["episodes"].get(s, [])] for s in splits},
        }

    def alone(self, name: str) -> Mixture:
        """One set, with the views, tasks and instructions of all: batches of it have the shapes of the mixture's."""
        one = copy.copy(self)
        one._shown = (self.names.index(name),)
        one.path = self.sets[one._shown[0]].path
        return one

    def split(self, name: str, cache_mb: int = 0) -> Split:
        """Loads the small arrays of ``train`` or ``val``; keeps decoded images if all fit in ``cache_mb``.

        Sets without that split have no rows in it.
        """
        numbers = [k for k in self._shown if name in self.sets[k].metadata["episodes"]]
        shown, parts = [self.sets[k] for k in numbers], [self.sets[k].split(name) for k in numbers]
        lengths = [len(part) for part in parts]
        rows = np.cumsum([0, *lengths])
        prompts = np.cumsum([0, *(len(part.prompt_ids) for part in parts)])
        known = all(part.keyframe is not None for part in parts)
        there = np.array([[camera in each.cameras for camera in self.cameras] for each in shown])
        return Split(
            state=np.concatenate([part.state for part in parts]),
            actions=np.concatenate([part.actions for part in parts]),
            last=np.concatenate([part.last + first for part, first in zip(parts, rows)]),
            keyframe=np.concatenate([part.keyframe + first for part, first in zip(parts, rows)]) if known else None,
            task=np.concatenate([_numbers(each.tasks, self.tasks)[p.task] for each, p in zip(shown, parts)]),
            prompts=np.concatenate([part.prompts + [first, 0] for part, first in zip(parts, prompts)]),
            prompt_ids=np.concatenate(
                [_numbers(each.instructions, self.instructions)[p.prompt_ids] for each, p in zip(shown, parts)]
            ),
            records=_Joined([part.records for part in parts]),
            pictures=_Joined([part.pictures for part in parts]),
            cameras=self.cameras,
            cache=Cache.within(cache_mb, rows[-1], len(self.cameras), parts[0].size),
            size=parts[0].size,
            source=np.repeat(numbers, lengths),
            seen=np.repeat(there, lengths, axis=0),
        )

    def action_space(self, config: ConfigDict) -> ActionSpaces:
        """Normalisation statistics of every set's training split."""
        return ActionSpaces(tuple(each.action_space(config) for each in self.sets))

    def check(self, config: ConfigDict) -> None:
        """Compares the sets with the configuration.

        Raises:
          ValueError: one has another image size, action layout or state length, or none of the tasks; a view or a task that
            none has; a task that several have where the objective cannot have that.
        """
        for each in self.sets:
            each.check_form(config)
        for camera in self.cameras:
            if not any(camera in each.cameras for each in self.sets):
                known = dict.fromkeys(name for each in self.sets for name in each.metadata["cameras"])
                raise ValueError(
                    f"config.env.cameras asks for {camera!r}, which no set of {self.path} has; they have {', '.join(known)}"
                )
        check_tasks(config, self.tasks, f"the mixture {self.path}")
        for each in self.sets:
            if not set(each.tasks) & set(config.env.tasks):
                raise ValueError(
                    f"data set {each.path} has none of config.env.tasks; it has {', '.join(each.tasks)}: name one of them or "
                    "take the set out of config.data.mixture.paths"
                )
        shared = [task for task in config.env.tasks if sum(task in each.tasks for each in self.sets) > 1]
        wrong = list(make_objective(config).check_mixture(shared)) if shared else []
        if wrong:
            raise ValueError(f"the mixture {self.path}: {'; '.join(wrong)}")


def _open(path: str, cameras: Sequence[str]) -> DataSet:
    there = read_metadata(path)["cameras"]
    found = [camera for camera in cameras if camera in there]
    if not found:
        raise ValueError(
            f"data set {path} has cameras {', '.join(there)}, none of config.env.cameras, {', '.join(cameras)}"
        )
    return DataSet(path, found)


def _numbers(own: Sequence[str], all_: Sequence[str]) -> np.ndarray:
    """A set's number of each of its names -> the mixture's."""
    place = {name: i for i, name in enumerate(all_)}
    return np.array([place[name] for name in own])


class _Joined:
    """Several sequences as one."""

    def __init__(self, parts: Sequence[Sequence]):
        self._parts, self._ends = parts, np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int):
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[part][int(row) - int(self._ends[part]) + len(self._parts[part])]
