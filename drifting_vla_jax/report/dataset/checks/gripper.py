"""The gripper's opening: 0 closed .. 1 open, in the actions; as measured, in a state that has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from drifting_vla_jax.report.dataset.checks.finding import Facts, Finding, at, first_and_worst, times
from drifting_vla_jax.report.dataset.reader import Demonstration, by_task

WITHIN = 1e-3
MOVES = 0.05  # a change of the opening that is a move
SMALL = 0.3  # an opening that moves but never beyond this is in metres, or half of a joint's range


def outside(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Actions outside 0 .. 1."""
    for episode in episodes:
        opening = episode.actions[:, 7]
        wrong = np.maximum(-opening, opening - 1)
        if spot := first_and_worst(wrong, wrong > WITHIN):
            step, size, count = spot
            yield at(episode, f"{opening[step]:.3f} is outside 0 .. 1{times(count)}", step, size)


def stuck(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Episodes in which it never moves while it does in most of the task's."""
    for members in by_task(episodes).values():
        idle = [e for e in members if np.ptp(e.actions[:, 7]) < MOVES]
        if 0 < len(idle) < len(members) / 2:
            moving = len(members) - len(idle)
            for e in idle:
                yield at(e, f"stays at {e.actions[0, 7]:.2f}; it moves in {moving} of {len(members)} episodes")


def unused(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Tasks that never move it."""
    for task, members in by_task(episodes).items():
        opening = np.concatenate([e.actions[:, 7] for e in members])
        if max(np.ptp(e.actions[:, 7]) for e in members) < MOVES:
            where = (
                f"at {opening[0]:.2f}"
                if np.ptp(opening) < MOVES
                else f"between {opening.min():.2f} and {opening.max():.2f}"
            )
            yield Finding(f"stays {where} in all of {len(members)} episodes", task)


def units(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Openings that move, but in a small part of 0 .. 1 alone."""
    for task, members in by_task(episodes).items():
        opening = np.concatenate([e.actions[:, 7] for e in members])
        low, high = float(opening.min()), float(opening.max())
        if high - low > WITHIN and low >= 0 and high < SMALL:
            yield Finding(f"between {low:.3f} and {high:.3f} in all episodes: metres?", task, size=1 - high)


def upside_down(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """The measured opening falls where the action says open (correlation below -0.5)."""
    if "gripper" not in facts.state_names:
        return
    column = facts.state_names.index("gripper")
    for task, members in by_task(episodes).items():
        asked = np.concatenate([e.actions[:-1, 7] for e in members])
        measured = np.concatenate([e.state[1:, column] for e in members])
        if len(asked) > 2 and np.ptp(asked) > MOVES and np.ptp(measured) > 0:
            r = float(np.corrcoef(asked, measured)[0, 1])
            if r < -0.5:
                yield Finding(f"correlation of the action with the measured opening is {r:.2f}", task, size=-r)
