"""What shows only across episodes: lengths, copies, what training and validation share, instructions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from drifting_vla_jax.report.dataset.checks.finding import Facts, Finding, at
from drifting_vla_jax.report.dataset.reader import Demonstration, by_task

LENGTH_FACTOR, LENGTH_UNLIKE = 2.0, 5.0  # times the median, and robust standard deviations of log(length)
FEW = 4  # episodes of a task, below which none is unusual


def lengths(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """More than twice, or less than half, the task's median length, and unlike the others' spread."""
    for members in by_task(episodes).values():
        logs = np.log([len(e) for e in members])
        away = np.abs(logs - np.median(logs))
        limit = max(np.log(LENGTH_FACTOR), LENGTH_UNLIKE * 1.4826 * np.median(away))
        if len(members) >= FEW:
            median = np.median([len(e) for e in members])
            for e, size in zip(members, away):
                if size > limit + 1e-9:
                    yield at(e, f"{len(e)} steps; the task's median is {median:g}", None, size)


def copies(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Episodes of one split with the same states and actions, bit by bit."""
    first = {}
    for episode in episodes:
        before = first.setdefault((episode.split, _digest(episode)), episode)
        if before is not episode:
            yield at(episode, f"the same as {_name(before)}, step by step")


def leakage(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Episodes outside train that train has too: the same numbers, or the same scene (task, variation and seed)."""
    train = [e for e in episodes if e.split == "train"]
    digests = {_digest(e): e for e in train}
    scenes = {(e.task, e.variation, e.seed): e for e in train if e.seed >= 0}
    for episode in episodes:
        if episode.split == "train":
            continue
        if same := digests.get(_digest(episode)):
            yield at(episode, f"the same as {_name(same)}, step by step", size=1)
        elif same := scenes.get((episode.task, episode.variation, episode.seed)):
            yield at(episode, f"the same start as {_name(same)}: variation {same.variation}, seed {same.seed}")


def empty_instructions(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """An instruction without a letter in it."""
    for episode in episodes:
        empty = [text for text in episode.instructions if not any(c.isalnum() for c in text)]
        if empty:
            yield at(episode, f"{len(empty)} of its {len(episode.instructions)} instructions: {empty[0]!r}")


def foreign_instructions(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """An instruction of another task. Whose it is: the task in which it stands with the largest share of the episodes."""
    groups = by_task(episodes)
    counts = {task: Counter(t for e in members for t in set(e.instructions)) for task, members in groups.items()}
    owner = {}
    for text in {text for counter in counts.values() for text in counter}:
        owner[text] = max(counts, key=lambda task: counts[task][text] / len(groups[task]))
    for episode in episodes:
        foreign = [text for text in episode.instructions if owner[text] != episode.task]
        if foreign:
            yield at(episode, f"{foreign[0]!r} is what {owner[foreign[0]]} is asked with", size=len(foreign))


def _digest(episode: Demonstration) -> bytes:
    return hashlib.sha1(episode.actions.tobytes() + episode.state.tobytes()).digest()


def _name(episode: Demonstration) -> str:
    return f"{episode.split} {episode.index}"
