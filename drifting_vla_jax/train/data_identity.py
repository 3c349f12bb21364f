"""Whether a run that goes on has the data it was begun with, and whether all of its processes see the same.

The checkpoint's statistics stay what actions and states are normalised by. So

    same contents, wherever they lie                          not a word
    other episodes, words or images, statistics that agree    one line
    statistics that do not agree: other units, another robot  refused

Two sets of n and m episodes agree if every entry's mean and standard deviation are as close as 10% and three standard errors of
so many episodes allow, and no gripper is the other way round.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from drifting_vla_jax.config.io import differences
from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.identity import Identity, identify
from drifting_vla_jax.data.mixture import Mixture
from drifting_vla_jax.data.normalization import CONSTANT_BELOW, CONSTANT_ELSE, ActionNormalizer
from drifting_vla_jax.train.assets import Assets, SetAssets

log = logging.getLogger(__name__)

_SLACK = 0.1  # of a standard deviation; of a ratio of two
_TURNED = 0.2  # a gripper's mean must move by this much to count as the other way round
_PATHS = ("data.path", "data.mixture.paths")
_DO = "Bring back the data it was trained on, or start in another --workdir"


def identify_for_all(data: DataSet | Mixture) -> tuple[Identity, ...]:
    """``identify``, once all processes have found the same.

    Raises:
      ValueError: another process sees other data, in each of them.
    """
    found = identify(data)
    if jax.process_count() == 1:
        return found
    own = np.frombuffer(bytes.fromhex(fingerprint([each.to_json() for each in found])), np.uint8)
    seen = multihost_utils.process_allgather(own)
    others = [str(process) for process in range(len(seen)) if (seen[process] != seen[0]).any()]
    if others:
        raise ValueError(
            f"process {', '.join(others)} sees other data in {data.path} than process 0 does: give every machine the same "
            "copy, or a file system that they share"
        )
    return found


def check_resumed(
    before: Assets, step: int, config: ConfigDict, data: DataSet | Mixture, now: Sequence[Identity]
) -> None:
    """Says in a line each what a run that goes on from ``step`` finds changed: its configuration, and each set of its data.

    Raises:
      ValueError: a set's statistics are not those that the checkpoint normalises by.
    """
    sets = (data,) if isinstance(data, DataSet) else data.sets
    known = {each.name: each for each in before.sets}
    then = [before] if isinstance(data, DataSet) else [known[name] for name in data.names]
    said = [_compare(*pair, before.config, config, step) for pair in zip(then, sets, now)]
    for change in differences(before.config, config):
        if any(said) or change.partition(":")[0] not in _PATHS:
            log.warning("resuming step %d with another configuration: %s", step, change)
    for line in filter(None, said):
        log.warning("%s", line)


def _compare(
    then: Assets | SetAssets, data: DataSet, now: Identity, old: ConfigDict, config: ConfigDict, step: int
) -> str:
    """One line about a set that has changed, "" if it has not."""
    before, train = then.data, now.splits["train"]
    changes = [*_told(then, data, old), *(before.changes(now) if before else ["its contents were not recorded then"])]
    if not changes:
        return ""
    what = (
        f"data set {data.path} is not known to be what step {step} was trained on"
        if before is None
        else (f"data set {data.path} is not what step {step} was trained on")
    )
    what += f" ({'; '.join(changes)})"
    names, numbers = tuple(data.metadata["state_names"]), len(then.actions.state_mean)
    if len(names) != numbers:
        raise ValueError(f"{what}: its state has {len(names)} numbers, the checkpoint's {numbers}. {_DO}")
    if before is None or before.splits["train"].numbers != train.numbers:
        if names != then.state_names and sorted(names) == sorted(then.state_names):
            raise ValueError(f"{what}: the entries of its state are in another order. {_DO}")
        episodes = (before.splits["train"] if before else train).episodes, train.episodes
        unlike = disagreement(then.actions, data.action_space(_as_before(config, then.actions)), names, *episodes)
        if unlike:
            raise ValueError(f"{what}: its statistics are others, {unlike}. {_DO}")
    return f"{what}; its statistics agree, and the training goes on with the checkpoint's"


def _told(then: Assets | SetAssets, data: DataSet, old: ConfigDict) -> Iterator[str]:
    """What the metadata say differently: rate, names of the state, instructions."""
    was, rate = then.control_hz * old.action.stride, data.metadata["control_hz"]
    if not math.isclose(was, rate, rel_tol=1e-6):
        yield f"{was:g} -> {rate:g} steps per second"
    names = tuple(data.metadata["state_names"])
    if then.state_names != names:
        yield f"state {' '.join(then.state_names)} -> {' '.join(names)}"
    gone = [text for text in then.prompts if text not in set(data.instructions)]
    new = [text for text in data.instructions if text not in set(then.prompts)]
    for count, texts in (("gone", gone), ("new", new)):
        if texts:
            yield f"{len(texts)} instructions {count}, such as {texts[0][:60]!r}"


def _as_before(config: ConfigDict, actions: ActionNormalizer) -> ConfigDict:
    """The configuration with the horizon and the frame that the checkpoint's statistics are of."""
    config = config.copy_and_resolve_references()
    config.action.horizon, config.action.frame = actions.horizon, actions.frame
    return config


def disagreement(
    old: ActionNormalizer, new: ActionNormalizer, state_names: Sequence[str], before: int, now: int
) -> str:
    """How statistics of ``before`` and of ``now`` episodes differ most: of the state, or else of the action; "" if they agree.

    An entry that never moved agrees with one that moves by less than counts as moving (``actions.CONSTANT_BELOW``), ten times.
    """
    slack = _SLACK + 3 * math.sqrt(1 / before + 1 / now)
    parts = old.layout.parts
    least = 10 * np.concatenate([np.full(p.width, CONSTANT_BELOW.get(p.kind, CONSTANT_ELSE)) for p in parts])
    gripper = np.concatenate([np.full(p.width, p.kind == "gripper") for p in parts])
    state_gripper = np.array(["gripper" in name for name in state_names])
    found = []
    for names, turned, floor, *numbers in (
        (state_names, state_gripper, 10 * CONSTANT_ELSE, old.state_mean, old.state_std, new.state_mean, new.state_std),
        (_entries(old.layout), gripper, least, old.mean, old.std, new.mean, new.std),
    ):
        mean, std, new_mean, new_std = (np.atleast_2d(x) for x in numbers)  # [h, k]
        width, new_width = np.maximum(std, floor), np.maximum(new_std, floor)
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.maximum(np.abs(new_mean - mean) / width / slack,
                             np.abs(np.log(new_width / width)) / math.log1p(slack))  # fmt: skip
        off = np.where(turned & _turned(mean, new_mean), np.inf, np.nan_to_num(off, nan=np.inf))
        step, entry = np.unravel_index(np.argmax(off), off.shape)
        what = "state" if names is state_names else f"step {step + 1} of the action's"
        found.append((off[step, entry], f"{what} {names[entry]}: mean {mean[step, entry]:.4g} -> {new_mean[step, entry]:.4g}, "
                      f"standard deviation {std[step, entry]:.4g} -> {new_std[step, entry]:.4g}"))  # fmt: skip
    return next((said for worst, said in found if worst > 1), "")


def _turned(mean: np.ndarray, new_mean: np.ndarray) -> np.ndarray:
    """Which openings, 0 .. 1, are now what 1 minus them was: nearer to that, over all steps [h, k], than to what they were."""
    moved, mirrored = np.abs(new_mean - mean), np.abs(new_mean - (1 - mean))
    return (mirrored.sum(0) < moved.sum(0) / 2) & (moved.max(0) > _TURNED) & (mean >= 0).all(0) & (mean <= 1).all(0)


def _entries(layout: ActionLayout) -> list[str]:
    """What the network's numbers of an action are called."""
    named = ((part, layout.names[part.boundary]) for part in layout.parts)
    return [
        name
        for part, names in named
        for name in (names if len(names) == part.width else (f"{part.name} {i}" for i in range(part.width)))
    ]
