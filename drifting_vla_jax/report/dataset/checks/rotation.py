"""Quaternions of the actions: unit, x y z w, and turning no faster than the rest of the task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from drifting_vla_jax.core.rotation import rotation_6d
from drifting_vla_jax.report.dataset.checks.finding import UNLIKE, Facts, Finding, at, first_and_worst, robust, times
from drifting_vla_jax.report.dataset.reader import Demonstration, by_task

UNIT_WITHIN = 1e-3
LEAST_TURN = 20.0  # degrees in one control step; below it a turn is no jump
AXES = ("x_axis_x", "x_axis_y", "x_axis_z", "y_axis_x", "y_axis_y", "y_axis_z")  # states that know the orientation


def not_unit(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Length other than 1."""
    for episode in episodes:
        length = np.linalg.norm(episode.actions[:, 3:7], axis=1)
        wrong = np.abs(length - 1)
        if spot := first_and_worst(wrong, wrong > UNIT_WITHIN):
            step, size, count = spot
            yield at(episode, f"its length is {length[step]:.3f}{times(count)}", step, size)


def sign_flips(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """All four numbers change their sign from one step to the next."""
    for episode in episodes:
        q = episode.actions[:, 3:7]
        flips = np.concatenate([[False], np.sum(q[1:] * q[:-1], axis=1) < 0])
        if spot := first_and_worst(flips.astype(float), flips):
            step, _, count = spot
            text = f"changes sign {count} time{'s' if count > 1 else ''}, w is {q[step, 3]:+.3f} at the first"
            yield at(episode, text, step, count)


def negative_w(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """w below zero: the project's layout says w >= 0."""
    for task, members in by_task(episodes).items():
        w = np.concatenate([e.actions[:, 6] for e in members])
        share = float(np.mean(w < -UNIT_WITHIN))
        if share:
            yield Finding(f"w is negative in {100 * share:.0f} % of the task's steps", task, size=share)


def order(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Quaternions that look like w x y z.

    Where the state holds the hand's axes, both readings of the action are compared with the axes one step later. Elsewhere
    the sign tells: quaternions are mostly stored with w >= 0, so a FIRST number that is never negative beside a last one
    that often is was probably w.
    """
    known = [facts.state_names.index(name) for name in AXES if name in facts.state_names]
    for task, members in by_task(episodes).items():
        q = np.concatenate([e.actions[:-1, 3:7] for e in members])
        if not len(q) or np.ptp(q, axis=0).max() < UNIT_WITHIN or np.linalg.norm(q, axis=1).min() < UNIT_WITHIN:
            continue
        if len(known) == len(AXES):
            axes = np.concatenate([e.state[1:, known] for e in members])
            as_is, swapped = (np.abs(rotation_6d(p) - axes).mean() for p in (q, q[:, [1, 2, 3, 0]]))
            if swapped < 0.25 * as_is:
                fits, does_not = f"mean error {swapped:.3f}", f"mean error {as_is:.3f}"
                text = f"read as w x y z they agree with the state's axes ({fits}), as x y z w they do not ({does_not})"
                yield Finding(text, task, size=as_is)
        elif q[:, 0].min() > -UNIT_WITHIN and np.mean(q[:, 3] < -UNIT_WITHIN) > 0.05:
            share = float(np.mean(q[:, 3] < -UNIT_WITHIN))
            text = f"the first number is never negative, the last one is in {100 * share:.0f} % of the steps"
            yield Finding(text, task, size=share)


def turns(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Target turns farther in one control step than anything else of its task (robust z > UNLIKE)."""
    for members in by_task(episodes).values():
        angles = {e.key: turn_degrees(e.actions[:, 3:7]) for e in members}
        median, spread = robust(np.concatenate([a[1:] for a in angles.values()]), LEAST_TURN / UNLIKE)
        for episode in members:
            angle = angles[episode.key]
            if spot := first_and_worst(angle, angle > median + UNLIKE * spread):
                _, size, count = spot
                text = f"turns {size:.0f} degrees in one step; the task's median is {median:.1f}{times(count)}"
                yield at(episode, text, int(np.argmax(angle)), size)


def turn_degrees(quaternions: np.ndarray) -> np.ndarray:
    """Angles [T] from the step before, of quaternions [T, 4]; the first is 0, the sign of a quaternion does not matter."""
    unit = quaternions / np.maximum(np.linalg.norm(quaternions, axis=1, keepdims=True), 1e-9)
    dot = np.abs(np.sum(unit[1:] * unit[:-1], axis=1, dtype=np.float64))
    return np.concatenate([[0.0], np.degrees(2 * np.arccos(np.clip(dot, 0, 1)))])
