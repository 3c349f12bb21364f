"""Images, as far as they were looked at (``frames.look``): black, frozen, alike in two cameras, of another step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from drifting_vla_jax.report.dataset.checks.finding import Facts, Finding, at, times
from drifting_vla_jax.report.dataset.reader import Demonstration

FLAT = 2.0  # standard deviation of all values of an image (0 .. 255); below it there is nothing to see
FROZEN_STEPS, FROZEN_MOVE = 5, 0.05  # identical frames in a row, and metres that the hand moved meanwhile


def damaged(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Image files that cannot be decoded."""
    for episode in episodes:
        for camera, seen in facts.seen.get(episode.key, {}).items():
            if seen.damaged:
                text = f"camera {camera}: cannot be decoded{times(len(seen.damaged))}"
                yield at(episode, text, seen.damaged[0], len(seen.damaged))


def blank(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Images of one colour."""
    for episode in episodes:
        for camera, seen in facts.seen.get(episode.key, {}).items():
            flat = [step for step, (_, contrast) in seen.light.items() if contrast < FLAT]
            if flat:
                mean = seen.light[flat[0]][0]
                text = f"camera {camera}: {'black' if mean < 10 else f'one colour (mean {mean:.0f} of 255)'}{times(len(flat))}"
                yield at(episode, text, flat[0], len(flat))


def frozen(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """The same image FROZEN_STEPS times or more while the hand moved FROZEN_MOVE or farther."""
    for episode in episodes:
        for camera, seen in facts.seen.get(episode.key, {}).items():
            runs = []
            for _, group in itertools.groupby(range(len(seen.digests)), key=seen.digests.__getitem__):
                steps = list(group)
                positions = episode.state[steps, :3]
                moved = float(np.linalg.norm(positions - positions[0], axis=1).max())
                if len(steps) >= FROZEN_STEPS and moved > FROZEN_MOVE:
                    runs.append((moved, len(steps), steps[0]))
            if runs:
                moved, count, step = max(runs)
                text = f"camera {camera}: one image for {count} steps while the hand moved {100 * moved:.0f} cm"
                yield at(episode, text, step, moved)


def same_view(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Two cameras with the same image at the same step."""
    for episode in episodes:
        for (a, one), (b, two) in itertools.combinations(facts.seen.get(episode.key, {}).items(), 2):
            same = [step for step, (x, y) in enumerate(zip(one.digests, two.digests)) if x == y]
            if same:
                text = f"cameras {a} and {b} show the same image{times(len(same))}"
                yield at(episode, text, same[0], len(same))


def misplaced(episodes: Sequence[Demonstration], facts: Facts) -> Iterator[Finding]:
    """Records whose state, action, episode or step is not that of their row in the arrays."""
    for episode in episodes:
        for seen in list(facts.seen.get(episode.key, {}).values())[:1]:  # the record is one for all cameras
            if seen.misplaced:
                text = f"the record is of another step than its row{times(len(seen.misplaced))}"
                yield at(episode, text, seen.misplaced[0], len(seen.misplaced))
