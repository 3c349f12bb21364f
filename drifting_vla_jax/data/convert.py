"""Every recording of a data set -> the episode files of each split. A damaged data set is refused before anything is written.

OUT/.episodes/settings.json              what the episodes there were made with
OUT/.episodes/<split or all>-<n>.npz     written as it is finished: a second start skips it
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from drifting_vla_jax.data.episodes import Episode, claim, decode_image
from drifting_vla_jax.data.reading import Reading
from drifting_vla_jax.data.recordings import (
    Faults,
    Format,
    Job,
    RecordedSettings,
    RecordingError,
    choose_cameras,
    chosen,
    rows_at,
    task_name,
    to_episode,
)
from drifting_vla_jax.envs.episodes import NAME_LENGTH
from drifting_vla_jax.hints import hint
from drifting_vla_jax.layouts import ActionLayout

CONVERTER = 1  # raised when the same files would give other episodes


def held_out(count: int, fraction: float) -> list[bool]:
    """Which of ``count`` episodes are for validation: every n-th, and at least the last if a share was asked for."""
    ends = np.floor(np.arange(count + 1) * fraction + 1e-9)
    held = (np.diff(ends) > 0).tolist()
    if fraction and count > 1 and not any(held):
        held[-1] = True
    return held


@dataclass(frozen=True)
class Converted:
    """Files of each split; pixels of a picture's side; views; names of the state; what the numbers of an action are; rows per
    second; a report per task; what was wrong with the episodes that were left out."""

    splits: dict[str, list[Path]]
    image_size: int
    cameras: tuple[str, ...]
    state_names: tuple[str, ...]
    layout: ActionLayout
    control_hz: float
    tasks: list[dict]
    damaged: list[str]


@dataclass(frozen=True)
class _Done:
    path: Path
    task: str
    length: int
    size: int

    @classmethod
    def of(cls, path: Path) -> _Done:
        episode = Episode.load(path)
        return cls(path, episode.task, len(episode), len(decode_image(next(iter(episode.images.values()))[0])))


def convert(settings: RecordedSettings, source: Format, out: Path) -> Converted:
    """Checks everything, then writes what is missing of OUT/.episodes.

    Raises:
      RecordingError, ValueError: see ``Format.check``, ``choose_cameras``, ``to_episode``; before anything is written,
        unless only reading an episode to its end can tell.
    """
    cameras = choose_cameras(settings.mapping, source.cameras, settings.cameras)
    reading = Reading(settings.mapping, source.widths, source.names)
    rows_at(0, source.hz, settings.control_hz)
    jobs, faults = _wanted(source, settings)
    faults |= source.check(reading.fields, list(cameras.values()), jobs, settings.on_error)
    if faults and faults.keys() >= set(jobs):
        raise _none_good(faults, settings)
    same = {"converter": CONVERTER, "input": settings.input, "mapping": settings.mapping, "cameras": cameras}
    claim(
        out / ".episodes",
        json.loads(json.dumps(same | {k: getattr(settings, k) for k in ("image_size", "control_hz")})),
    )

    def work(split: str, number: int) -> _Done | None:
        path = out / ".episodes" / f"{split or 'all'}-{number:06d}.npz"
        if not path.is_file():
            try:
                recording = source.read(source.splits[split][number], reading.fields)
                to_episode(recording, reading, cameras, source.hz, settings).save(path)
            except RecordingError as error:
                faults.add((split, number), error)
                return None
        return _Done.of(path)

    pool = concurrent.futures.ThreadPoolExecutor(settings.workers)
    try:
        futures = {job: pool.submit(work, *job) for job in jobs if job not in faults}
        bar = tqdm(futures.items(), desc="episodes", unit="ep", dynamic_ncols=True)
        done = {job: result for job, future in bar if (result := future.result())}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return _collected(done, faults, reading, tuple(cameras), source.hz, settings)


def _collected(
    of_job: Mapping[Job, _Done], faults: Faults, reading: Reading, cameras: tuple, hz: float, settings: RecordedSettings
) -> Converted:
    """What was converted, divided into splits; raises RecordingError if nothing is good or pictures differ in size."""
    done, damaged = list(of_job.values()), [faults[job] for job in sorted(faults)]
    if not done:
        raise _none_good(faults, settings)
    sizes = {episode.size: episode.path for episode in done}
    if len(sizes) > 1:
        examples = ", ".join(f"{size} px in {path.stem}" for size, path in sizes.items())
        raise RecordingError(f"pictures differ in size ({examples}); give --image_size")
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    held = iter(held_out(sum(not split for split, _ in of_job), settings.val_fraction))
    for (split, _), episode in of_job.items():
        splits[split or ("val" if next(held) else "train")].append(episode.path)
    lengths: dict[str, list[int]] = {}
    for episode in done:
        lengths.setdefault(episode.task, []).append(episode.length)
    return Converted(
        splits=splits,
        image_size=next(iter(sizes)),
        cameras=cameras,
        state_names=reading.state_names,
        layout=reading.layout,
        control_hz=settings.control_hz or hz,
        tasks=[{"task": t, "kept": len(n), "mean_length": sum(n) / len(n)} for t, n in lengths.items()],
        damaged=damaged,
    )


def _none_good(faults: Faults, settings: RecordedSettings) -> RecordingError:
    first = faults[min(faults)]
    return RecordingError(f"no good episode in {settings.input}; {len(faults)} are damaged: {first}")


def _wanted(source: Format, settings: RecordedSettings) -> tuple[list[Job], Faults]:
    """Each episode that is asked for, in order; those of which that cannot be told."""
    everything, faults = chosen(source.splits, None), Faults(settings.on_error)
    if not everything:
        raise RecordingError(f"{settings.input} has no episodes")
    if not settings.tasks and not settings.episodes:
        return list(everything), faults
    tasks = {}
    for job, episode in everything.items():
        try:
            tasks[job] = task_name(source.task_of(episode))
        except RecordingError as error:
            faults.add(job, error)
    for task in settings.tasks:
        if task not in tasks.values():
            raise ValueError(f"{settings.input} has no task {task!r}; {hint(task, dict.fromkeys(tasks.values()))}")
    counts: dict[tuple[str, str], int] = {}
    wanted = []
    for (split, number), task in tasks.items():
        counts[split, task] = counts.get((split, task), 0) + 1
        if (not settings.tasks or task in settings.tasks) and counts[split, task] <= (settings.episodes or len(tasks)):
            wanted.append((split, number))
    return wanted, faults


def details(settings: RecordedSettings, converted: Converted) -> dict:
    """For the datasheet."""
    return {"settings": asdict(settings), "tasks": converted.tasks, "damaged": converted.damaged}


def report_lines(about: Mapping) -> list[str]:
    """The datasheet's details as lines: a task each, then the episodes that were left out."""
    lines = [f"{t['task']:{NAME_LENGTH}s} {t['kept']:5d} kept, {t['mean_length']:6.1f} steps" for t in about["tasks"]]
    if about["damaged"]:
        lines.append(f"{len(about['damaged'])} damaged and skipped")
    return lines + [f"  skipped: {reason}" for reason in about["damaged"]]
