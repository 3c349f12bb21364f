"""The action at t is the target for t + 1, so the state at t + 1 is near it. How near says whether the two belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from drifting_vla_jax.report.dataset.checks.finding import UNLIKE, Facts, Finding, at, first_and_worst, robust, times
from drifting_vla_jax.report.dataset.reader import Demonstration, by_task

LAGS = (-2, -1, 0, 1, 2, 3)  # steps from an action to the state it is compared with
MOVING = 1e-3  # m in one step; steps at rest fit any lag
LEAST = 0.02  # m; below it action and state agree
FRAME = 0.05  # m between all targets and all states: not one coordinate frame


def late(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Actions that fit the present state, or an earlier one, better than the next one."""
    for task, members in by_task(episodes).items():
        errors = {lag: np.concatenate([_distance(e, lag, moving=True) for e in members]) for lag in LAGS}
        if min(map(len, errors.values())) < 3:
            continue
        medians = {lag: float(np.median(values)) for lag, values in errors.items()}
        best = min(medians, key=medians.__getitem__)
        if best <= 0 and medians[best] < 0.8 * medians[1]:
            where = {0: "at t"}.get(best, f"at t - {-best}")
            text = (
                f"the action at t is nearest to the state {where} ({100 * medians[best]:.1f} cm, median), "
                f"not at t + 1 ({100 * medians[1]:.1f} cm)"
            )
            yield Finding(text, task, size=medians[1])


def other_frame(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """All targets of a task are far from the states that follow."""
    for task, members in by_task(episodes).items():
        gap = np.concatenate([_distance(e, 1) for e in members])
        step = np.concatenate([_distance(e, 0) for e in members])
        if len(gap) and np.median(gap) > FRAME and np.quantile(gap, 0.1) > 0.5 * np.median(gap):
            apart, before = 100 * float(np.median(gap)), 100 * float(np.median(step))
            text = f"targets are {apart:.0f} cm (median) from the states that follow, {before:.0f} cm from those at the same step"
            yield Finding(text, task, size=float(np.median(gap)))


def misses(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Steps after which the hand is farther from its target than elsewhere in the task (robust z > UNLIKE), and episodes
    whose median is: those would widen the spread of single steps."""
    for members in by_task(episodes).values():
        gaps = {e.key: _distance(e, 1) for e in members if len(e) > 1}
        if not gaps:
            continue
        median, spread = robust(np.concatenate(list(gaps.values())), LEAST / UNLIKE)
        usual = np.array([np.median(gap) for gap in gaps.values()])
        apart = max(LEAST, UNLIKE * 1.4826 * float(np.median(np.abs(usual - np.median(usual)))))
        for episode in members:
            gap = gaps.get(episode.key, np.empty(0))
            far = gap > median + UNLIKE * spread
            if len(gap) and np.median(gap) > np.median(usual) + apart:
                far = gap > np.median(usual) + apart
            if spot := first_and_worst(gap, far):
                _, size, count = spot
                usually = f"the task's median is {100 * median:.1f} cm"
                text = f"the next state is {100 * size:.1f} cm from the target; {usually}{times(count)}"
                yield at(episode, text, int(np.argmax(gap)), size)


def _distance(episode: Demonstration, lag: int, moving: bool = False) -> np.ndarray:
    """Metres between the action at t and the state at t + lag, for every t that has both (and moves)."""
    last = len(episode) - max(0, lag)
    rows = np.arange(max(0, -lag), max(0, last))
    targets, positions = episode.actions[:, :3], episode.state[:, :3]
    if moving and len(episode) > 1:
        speed = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        rows = rows[np.append(speed, speed[-1])[rows] > MOVING]
    return np.linalg.norm(targets[rows] - positions[rows + lag], axis=1)
