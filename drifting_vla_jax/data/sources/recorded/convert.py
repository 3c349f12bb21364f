"""Every recording of a data set -> the episode files of each split. A damaged data set is refused before anything is written.

OUT/.episodes/settings.json              what the episodes there were made with
OUT/.episodes/<fingerprint>.npz          written as it is finished. The name is that of the recording's content, so that a second
                                         start goes on, also after the data set was mended, reordered or added to
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.core.episode import NAME_LENGTH, Episode, decode_image
from drifting_vla_jax.core.files import fingerprint
from drifting_vla_jax.core.suggest import did_you_mean
from drifting_vla_jax.data.sources.base import held_out
from drifting_vla_jax.data.sources.recorded.base import (
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
from drifting_vla_jax.data.sources.recorded.extract import FieldExtractor
from drifting_vla_jax.data.sources.screening import screen
from drifting_vla_jax.data.sources.splits import claim

log = logging.getLogger(__name__)
CONVERTER = 1  # raised when the same files would give other episodes


@dataclass(frozen=True)
class Converted:
    """Files of each split; pixels of a picture's side; views; names of the state; what the numbers of an action are; rows per
    second; a report per task; what was wrong with the episodes that were left out; see ``content``, and the hub's commit."""

    splits: dict[str, list[Path]]
    image_size: int
    cameras: tuple[str, ...]
    state_names: tuple[str, ...]
    layout: ActionLayout
    control_hz: float
    tasks: list[dict]
    damaged: list[str]
    content: dict


@dataclass(frozen=True)
class _Done:
    path: Path
    task: str
    length: int
    size: int
    name: str

    @classmethod
    def of(cls, path: Path, name: str) -> _Done:
        episode = Episode.load(path)
        return cls(path, episode.task, len(episode), len(decode_image(next(iter(episode.images.values()))[0])), name)


def convert(settings: RecordedSettings, source: Format, out: Path) -> Converted:
    """Checks everything, then writes what is missing of OUT/.episodes.

    Raises:
      RecordingError, ValueError: see ``Format.check``, ``choose_cameras``, ``to_episode``; before anything is written,
        unless only reading an episode to its end can tell.
    """
    cameras, reading, jobs, faults = _checked(settings, source)
    sound = [job for job in jobs if job not in faults]
    screen(settings, source, reading, cameras, sound, faults, _in_threads)
    if faults and faults.keys() >= set(jobs):
        raise _none_good(faults, settings)
    same = {"converter": CONVERTER, "input": settings.input, "mapping": settings.mapping, "cameras": cameras}
    claim(
        out / ".episodes",
        json.loads(json.dumps(same | {k: getattr(settings, k) for k in ("image_size", "control_hz")})),
    )

    keys: dict[Job, str] = {}

    def work(split: str, number: int) -> _Done | None:
        job = split, number
        try:
            keys[job] = _fingerprint(source, job, reading, cameras)
            path = out / ".episodes" / f"{keys[job]}.npz"
            if job in faults:
                return None
            if not path.is_file():
                recording = source.read(source.splits[split][number], reading.fields)
                to_episode(recording, reading, cameras, source.hz, settings).save(path)
        except RecordingError as error:
            faults.add(job, error)
            return None
        return _Done.of(path, f"episode {number}{split and ' of '}{split}")

    done = {job: result for job, result in zip(sound, _in_threads(work, sound, settings.workers)) if result}
    collected = _collected(done, faults, reading, tuple(cameras), source.hz, settings)
    return replace(collected, content={**_content(jobs, keys), "revision": source.revision})


def content(settings: RecordedSettings, source: Format) -> dict:
    """Names what ``convert`` would convert now: {"episodes": how many, "fingerprint": of all, in order and by split}.

    Raises:
      RecordingError, ValueError: see ``convert``.
    """
    cameras, reading, jobs, faults = _checked(settings, source)

    def work(split: str, number: int) -> str:
        try:
            return _fingerprint(source, (split, number), reading, cameras)
        except RecordingError as error:
            faults.add((split, number), error)
            return ""

    good = [job for job in jobs if job not in faults]
    return _content(jobs, dict(zip(good, _in_threads(work, good, settings.workers))))


def _content(jobs: Sequence[Job], keys: Mapping[Job, str]) -> dict:
    found = [[job[0], keys.get(job, "")] for job in jobs]
    return {"episodes": len(found), "fingerprint": fingerprint(found)}


def _checked(settings: RecordedSettings, source: Format) -> tuple[dict[str, str], FieldExtractor, list[Job], Faults]:
    """The cameras, the numbers and the episodes to read, after everything was looked at; which of these are damaged."""
    cameras = choose_cameras(settings.mapping, source.cameras, settings.cameras, source.odd)
    reading = FieldExtractor(settings.mapping, source.widths, source.names)
    if reading.unread:
        log.info("not read: %s", ", ".join(reading.unread))
    rows_at(0, source.hz, settings.control_hz)
    jobs, faults = _wanted(source, settings)
    faults |= source.check(reading.fields, list(cameras.values()), jobs, settings.on_error)
    return cameras, reading, jobs, faults


def _fingerprint(source: Format, job: Job, reading: FieldExtractor, cameras: Mapping[str, str]) -> str:
    """Names all that an episode is made of, but for what ``claim`` compares."""
    found = source.fingerprint(source.splits[job[0]][job[1]], reading.fields, list(cameras.values()))
    return fingerprint(found, source.hz, list(reading.state_names), reading.layout.to_json())


def _in_threads(work: Callable, jobs: Sequence[Job], workers: int, what: str = "episodes") -> list:
    """The results of the jobs in their order; after an error the others end with the episode that they are at."""
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(work, *job) for job in jobs]
        with tqdm(futures, desc=what, unit="ep", dynamic_ncols=True) as bar:
            return [future.result() for future in bar]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collected(
    of_job: Mapping[Job, _Done],
    faults: Faults,
    reading: FieldExtractor,
    cameras: tuple,
    hz: float,
    settings: RecordedSettings,
) -> Converted:
    """What was converted, divided into splits; raises RecordingError if nothing is good or pictures differ in size."""
    done, damaged = list(of_job.values()), [faults[job] for job in sorted(faults)]
    if not done:
        raise _none_good(faults, settings)
    sizes = {episode.size: episode.name for episode in done}
    if len(sizes) > 1:
        examples = ", ".join(f"{size} px in {name}" for size, name in sizes.items())
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
        content={},
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
            raise ValueError(
                f"{settings.input} has no task {task!r}; {did_you_mean(task, dict.fromkeys(tasks.values()))}"
            )
    counts: dict[tuple[str, str], int] = {}
    wanted = []
    for (split, number), task in tasks.items():
        counts[split, task] = counts.get((split, task), 0) + 1
        if (not settings.tasks or task in settings.tasks) and counts[split, task] <= (settings.episodes or len(tasks)):
            wanted.append((split, number))
    return wanted, faults


def details(settings: RecordedSettings, converted: Converted) -> dict:
    """For the datasheet."""
    return {"settings": asdict(settings), "tasks": converted.tasks, "damaged": converted.damaged,
            "content": converted.content}  # fmt: skip


def report_lines(about: Mapping) -> list[str]:
    """The datasheet's details as lines: a task each, then the episodes that were left out."""
    lines = [f"{t['task']:{NAME_LENGTH}s} {t['kept']:5d} kept, {t['mean_length']:6.1f} steps" for t in about["tasks"]]
    if about["damaged"]:
        lines.append(f"{len(about['damaged'])} damaged and skipped")
    return lines + [f"  skipped: {reason}" for reason in about["damaged"]]
