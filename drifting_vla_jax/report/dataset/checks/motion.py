"""Positions of the end effector: what no arm does, and what nothing else in the task does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from drifting_vla_jax.envs.base import ACTION_NAMES
from drifting_vla_jax.report.dataset.checks.finding import UNLIKE, Facts, Finding, at, first_and_worst, robust, times
from drifting_vla_jax.report.dataset.reader import Demonstration, by_task

FASTEST = 2.5  # m/s; a Panda's hand is limited to 1.7, scripted experts stay below 1.3
LEAST_JUMP = 0.02  # m; below it a step is no jump, however still the rest of the task stands
REACH = 3.0  # m from the origin; farther positions are hardly metres
MARGIN = 0.2  # m beyond where the task's episodes usually are
STILL = (0.002, 1.0, 0.02)  # m, degrees, opening: nobody moved
STILL_START, STILL_END = 1.0, 2.0  # s; a demonstration often ends with holding what it has reached


def not_finite(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """NaN or infinity in a state or an action."""
    for episode in episodes:
        rows = np.concatenate([episode.state, episode.actions], axis=1)
        where = np.argwhere(~np.isfinite(rows))
        if len(where):
            step, column = where[0]
            names = [*(f"state {name}" for name in facts.state_names), *(f"action {name}" for name in ACTION_NAMES)]
            many = f"{len(where)} numbers are" if len(where) > 1 else "1 number is"
            text = f"{many} NaN or infinite, the first in {names[column]}"
            yield at(episode, text, step, len(where))


def jumps(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Target or hand moves farther in one control step than FASTEST, or than anything else of its task (robust z > UNLIKE)."""
    for members in by_task(episodes).values():
        moves = {e.key: (_step_lengths(e.actions[:, :3]), _step_lengths(e.state[:, :3])) for e in members}
        everything = np.concatenate([move[1:] for pair in moves.values() for move in pair])
        median, spread = robust(everything, LEAST_JUMP / UNLIKE)
        limit = min(FASTEST / facts.control_hz, max(median + UNLIKE * spread, LEAST_JUMP))
        for episode in members:
            for name, move in zip(("the target", "the hand"), moves[episode.key]):
                if spot := first_and_worst(move, move > limit):
                    _, size, count = spot
                    step = int(np.argmax(move))
                    text = (
                        f"{name} moves {100 * size:.1f} cm in one step ({size * facts.control_hz:.1f} m/s); "
                        f"the task's median is {100 * median:.1f} cm{times(count)}"
                    )
                    yield at(episode, text, step, size)
                    break  # targets are what the hand reaches: the same jump again, a step later


def outside(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Positions beyond REACH, or far outside the box that the task's episodes usually stay in.

    The box is the median of the episodes' own boxes, wider by the largest of MARGIN, its size, and UNLIKE robust standard
    deviations from episode to episode: an episode that lies elsewhere as a whole does not stretch it.
    """
    for members in by_task(episodes).values():
        low = np.array([e.actions[:, :3].min(axis=0) for e in members])
        high = np.array([e.actions[:, :3].max(axis=0) for e in members])
        middle = np.median(low, axis=0), np.median(high, axis=0)
        varies = [1.4826 * np.median(np.abs(ends - m), axis=0) for ends, m in zip((low, high), middle)]
        margin = np.maximum(max(MARGIN, float(np.max(middle[1] - middle[0]))), UNLIKE * np.maximum(*varies))
        for episode in members:
            positions = episode.actions[:, :3]
            far = np.abs(positions).max(axis=1)
            beyond = np.maximum(middle[0] - positions, positions - middle[1])
            if spot := first_and_worst(far, far > REACH):
                step, size, count = spot
                text = f"{size:.1f} m from the origin: millimetres or centimetres?{times(count)}"
                yield at(episode, text, step, size)
            elif spot := first_and_worst(beyond.max(axis=1), (beyond > margin).any(axis=1)):
                step, size, count = spot
                text = f"{100 * size:.0f} cm outside where the task's episodes usually are{times(count)}"
                yield at(episode, text, step, size)


def standing_still(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """The target does not move for STILL_START seconds at the beginning or STILL_END at the end."""
    for episode in episodes:
        for where, steps, allowed in (
            ("start", still_steps(episode.actions), STILL_START),
            ("end", still_steps(episode.actions[::-1]), STILL_END),
        ):
            seconds = steps / facts.control_hz
            if seconds > allowed:
                text = f"stands still for {seconds:.1f} s at the {where}, {100 * steps / len(episode):.0f} % of the episode"
                yield at(episode, text, 0 if where == "start" else len(episode) - steps, seconds)


def still_steps(actions: np.ndarray) -> int:
    """How many of the first actions [T, 8] are the first one, within STILL."""
    quaternions = actions[:, 3:7] / np.maximum(np.linalg.norm(actions[:, 3:7], axis=1, keepdims=True), 1e-9)
    moved = np.linalg.norm(actions[:, :3] - actions[0, :3], axis=1) > STILL[0]
    turned = np.degrees(2 * np.arccos(np.clip(np.abs(quaternions @ quaternions[0]), 0, 1))) > STILL[1]
    away = moved | turned | (np.abs(actions[:, 7] - actions[0, 7]) > STILL[2])
    return int(np.argmax(away)) if away.any() else len(actions)


def _step_lengths(positions: np.ndarray) -> np.ndarray:
    """Metres from the step before, [T]; the first is 0."""
    return np.concatenate([[0.0], np.linalg.norm(np.diff(positions, axis=0), axis=1)])
