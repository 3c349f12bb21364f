"""The numbers of every recording, and the pictures of a few, looked at before anything is written. See ``episode_checks.py``.

An episode with a fault is refused or, with --on_error=skip, left out and counted; what is wrong with the set ends the build.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.recorded.base import (
    Faults,
    Format,
    Job,
    RecordedEpisode,
    RecordedSettings,
    RecordingError,
    decoded,
    numbers_of,
)
from drifting_vla_jax.data.sources.recorded.extract import FieldExtractor

log = logging.getLogger(__name__)
CLIPPED = 0.1  # of the rows: so many openings beyond open and closed are said


def screen(
    settings: RecordedSettings,
    source: Format,
    reading: FieldExtractor,
    cameras: Mapping[str, str],
    jobs: Sequence[Job],
    faults: Faults,
    in_threads: Callable,
) -> None:
    """Adds the episodes that ``source_checks`` has something against to ``faults``.

    Args:
      in_threads: (work, jobs, workers) -> the results in order.

    Raises:
      RecordingError: there is one and it is not to be left out.
      source_checks.SourceError: something is wrong with the whole set.
    """
    episode_checks.check_rate(source.hz)
    skip = settings.mapping.get("skip_first", 0)
    beyond: dict[str, list[float]] = {}

    def work(split: str, number: int) -> episode_checks.Summary | None:
        try:
            recording = source.read(source.splits[split][number], reading.fields)
            state, targets = numbers_of(recording, reading, skip)
            if not len(targets):
                raise RecordingError(f"{recording.name} has {len(state)} rows; a target needs one more")
            numbers = episode_checks.Numbers(recording.instructions, state, targets, reading.layout)
            if found := episode_checks.fault(numbers):
                raise RecordingError(f"{recording.name}: {found}")
        except RecordingError as error:
            faults.add((split, number), error)
            return None
        for where, share in reading.beyond(recording.arrays).items():
            beyond.setdefault(where, []).append(share)
        return episode_checks.Summary.of(numbers, reading.commands(recording.arrays))

    checks, good = episode_checks.SetChecks(), []
    for job, summary in zip(jobs, in_threads(work, jobs, settings.workers, "checks")):
        before = checks.add(job, summary) if summary else None
        if before and _same_pictures(source, reading, cameras, (before, job)):
            names = [source.read(source.splits[split][n], reading.fields).name for split, n in (job, before)]
            faults.add(job, RecordingError(f"{names[0]} is {names[1]} again, pictures too"))
        elif summary:
            good.append(job)
    checks.finish()
    for where, shares in beyond.items():
        if np.mean(shares) > CLIPPED:
            log.info(
                "%s: %.0f %% of the rows lie beyond its open and closed, and are clipped", where, 100 * np.mean(shares)
            )
    samples = (_looked_at(source, reading, cameras, job, skip) for job in good[: episode_checks.LOOKED_AT])
    if found := episode_checks.picture_fault(filter(None, samples)):
        raise episode_checks.SourceError(f"{settings.input}: {found}")


def _looked_at(
    source: Format, reading: FieldExtractor, cameras: Mapping[str, str], job: Job, skip: int
) -> dict[str, list[np.ndarray]] | None:
    """A few pictures of every view; None of an episode whose pictures are damaged, which is said when it is converted."""
    recording = source.read(source.splits[job[0]][job[1]], reading.fields)
    try:
        return {name: list(_pictures(recording, field, skip)) for name, field in cameras.items()}
    except ValueError:
        return None


def _pictures(recording: RecordedEpisode, field: str, skip: int) -> Iterator[np.ndarray]:
    count = len(next(iter(recording.arrays.values()))) - skip
    return map(decoded, recording.pictures(field, skip + episode_checks.rows_to_look_at(count)))


def _same_pictures(source: Format, reading: FieldExtractor, cameras: Mapping[str, str], jobs: tuple[Job, Job]) -> bool:
    one, two = (_looked_at(source, reading, cameras, job, 0) for job in jobs)
    return bool(one and two) and all(
        len(one[view]) == len(two[view]) and all(map(episode_checks.alike, one[view], two[view])) for view in one
    )
