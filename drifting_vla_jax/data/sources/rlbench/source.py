"""RLBench demonstrations on disk -> the episodes that every source hands to the builder.

    DIR/train/<task>/..., DIR/val/<task>/...    both there: they are the two splits
    DIR/train/<task>/... or DIR/<task>/...      otherwise the last episodes of each task are held out

State and target are made by core/end_effector.py, as those of the live simulator are. A demonstration of t + 1 observations
becomes t rows; the last one is a target only.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tqdm import tqdm

from drifting_vla_jax.core.action_layout import END_EFFECTOR
from drifting_vla_jax.core.end_effector import HZ, STATE_NAMES, make_state
from drifting_vla_jax.core.episode import Episode
from drifting_vla_jax.core.files import file_fingerprint, fingerprint
from drifting_vla_jax.core.ranges import SEVERAL, Many, Name, Place
from drifting_vla_jax.core.settings import Option
from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.base import (
    About,
    Held,
    ImageSize,
    OnError,
    Source,
    Workers,
    check_fraction,
    check_undivided,
)
from drifting_vla_jax.data.sources.rlbench import episodes as peract
from drifting_vla_jax.data.sources.rlbench import images as rlbench_images
from drifting_vla_jax.data.sources.rlbench.episodes import Demo
from drifting_vla_jax.data.sources.splits import claim, held_out_count
from drifting_vla_jax.envs.rlbench import demos
from drifting_vla_jax.envs.rlbench.demos import DemoError, named
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS

CONVERTER = 2  # raised when the same files would give other episodes


@dataclass(frozen=True)
class ConvertSettings:
    """What to convert."""

    input: Annotated[
        str,
        Place("DIR"),
        Option(None, "folder of RLBench demonstrations: of tasks, or of train/ and val/ with tasks in them"),
    ]
    tasks: Annotated[
        tuple[str, ...], Many(Name()), Option(None, "folder names of tasks, such as open_drawer, comma-separated")
    ]
    episodes: Annotated[int, SEVERAL, Option(0, "good episodes of each task and folder, the first ones; 0: all")]
    cameras: Annotated[tuple[str, ...], Many(Name()), Option(CAMERAS, "views, in order")]
    image_size: ImageSize
    val_fraction: Held
    on_error: OnError
    workers: Workers

    def __post_init__(self):
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must be one or more different names; got {', '.join(self.tasks) or 'none'}")
        if not self.cameras:
            raise ValueError(f"name at least one camera of {', '.join(CAMERAS)}")
        for camera in self.cameras:
            if camera not in CAMERAS:
                near = difflib.get_close_matches(camera, CAMERAS, 1, 0.0)[0]
                raise ValueError(f"unknown camera {camera!r} of RLBench; did you mean {near!r}?")
        check_fraction(self.val_fraction)
        for folder in self.folders().values():
            for task in self.tasks:
                if not (folder / task).is_dir():
                    there = sorted(p.name for p in folder.glob("[!.]*") if p.is_dir())
                    near = difflib.get_close_matches(task, there, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there) or 'no tasks'}"
                    raise ValueError(f"no folder {task!r} in {folder}; {hint}")

    @property
    def has_splits(self) -> bool:
        """Whether the input comes in two splits; an empty val/ is none."""
        return all(any((Path(self.input) / split).glob("[!.]*/")) for split in ("train", "val"))

    def folders(self) -> dict[str, Path]:
        """Where the tasks are; under the name of a split, or of "" if the input is to be divided."""
        root = Path(self.input)
        if not root.is_dir():
            raise ValueError(f"there is no folder {root}; fetch one with python -m drifting_vla_jax.data.download")
        if self.has_splits:
            return {split: root / split for split in ("train", "val")}
        return {"": root / "train" if (root / "train").is_dir() else root}


@dataclass(frozen=True)
class TaskReport:
    """What one task of one folder gave: episodes kept, their mean length in steps, what was wrong with others, and the
    fingerprint of all those that were looked at."""

    task: str
    folder: str
    kept: int
    mean_length: float
    damaged: tuple[str, ...]
    content: str = ""


def _fingerprint(folder: Path, cameras: tuple[str, ...]) -> str:
    """Names all that is read of a demonstration: its pickles and these cameras' pictures."""
    variation = folder.parents[1]  # of stepjam's tree; it says what was asked there
    parts: list = [variation.name]
    groups = {"": [*variation.glob("*.pkl"), *sorted(folder.glob("*.pkl"))]}
    groups |= {camera: sorted(folder.glob(f"{camera}_rgb/*.png")) for camera in cameras}
    for name, paths in groups.items():  # what is no file is refused when it is read
        parts += [name, [[p.name, file_fingerprint(p) if p.is_file() else ""] for p in paths]]
    return fingerprint(*parts)


def to_episode(demo: Demo, cameras: tuple[str, ...], image_size: int) -> Episode:
    """A demonstration as rows, each with the pose and the gripper one observation later as its target.

    Raises:
      DemoError: a picture is missing, damaged or of another size than the first.
    """
    images: dict[str, list[bytes]] = {camera: [] for camera in cameras}
    size = image_size
    for camera in cameras:
        for path in peract.frames(demo.folder, camera, "rgb", len(demo)):
            data = named(path, path.read_bytes)
            height, _ = named(path, lambda data=data: rlbench_images.check_png(data))
            size = size or height
            if not image_size and height != size:
                raise DemoError(f"{path} has {height} rows of pixels, earlier pictures {size}; give --image_size")
            images[camera].append(named(path, lambda data=data, size=size: rlbench_images.resized(data, size)))
    return Episode(
        task=demo.task,
        variation=demo.variation,
        seed=-1,
        instructions=tuple(dict.fromkeys(demo.descriptions)),
        images={camera: pictures[:-1] for camera, pictures in images.items()},
        state=make_state(demo.gripper_pose, demo.gripper_open)[:-1],
        actions=demo.actions(),
        keyframes=tuple(t - 1 for t in demo.keyframes()),
    )


def _checked(demo: Demo) -> Demo:
    """Raises DemoError for what ``source_checks`` has something against; before its pictures are read."""
    numbers = episode_checks.Numbers(
        demo.descriptions, make_state(demo.gripper_pose, demo.gripper_open)[:-1], demo.actions(), END_EFFECTOR
    )
    if found := episode_checks.fault(numbers):
        raise DemoError(f"{demo.folder}: {found}")
    return demo


def convert(settings: ConvertSettings, out: Path) -> tuple[dict[str, list[Path]], int, list[TaskReport]]:
    """Writes what is missing of OUT/.episodes/<fingerprint of the demonstration>/<folder>/<task>/<name>.npz.

    Returns:
      The files of each split, the side of their pictures in pixels, and a report per task and folder.

    Raises:
      DemoError: an episode is damaged and ``on_error`` is "fail", or a task has no good one.
      ValueError: the pictures of different episodes have different sizes.
    """
    same = {"converter": CONVERTER, "input": str(Path(settings.input).resolve())}
    claim(out / ".episodes", same | {"cameras": list(settings.cameras), "image_size": settings.image_size})
    jobs = [(name, folder, task) for name, folder in settings.folders().items() for task in settings.tasks]
    bar, stop = tqdm(desc="episodes", unit="ep", dynamic_ncols=True), threading.Event()
    with bar, concurrent.futures.ThreadPoolExecutor(settings.workers) as pool:
        futures = [pool.submit(_convert_task, settings, out, *job, bar, stop) for job in jobs]
        try:
            done = [future.result() for future in futures]
        finally:
            stop.set()  # after damage or Ctrl-C the others end with the episode that they are at
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    for (name, *_), (sizes, _) in zip(jobs, done):
        paths, held = list(sizes), 0 if name else held_out_count(len(sizes), settings.val_fraction)
        splits[name or "train"] += paths[: len(paths) - held]
        splits["val"] += paths[len(paths) - held :]
    different = {size: path for sizes, _ in done for path, size in sizes.items()}
    if len(different) > 1:
        examples = ", ".join(f"{size} px in {path.parent.name} {path.stem}" for size, path in different.items())
        raise ValueError(f"pictures differ in size ({examples}); give --image_size")
    return splits, next(iter(different)), [report for _, report in done]


def _convert_task(
    settings: ConvertSettings, out: Path, name: str, folder: Path, task: str, bar: tqdm, stop: threading.Event
) -> tuple[dict[Path, int], TaskReport]:
    """The files of one task's good episodes with the pixels of their pictures' side, and the report about them."""
    sizes, damaged, lengths, keys = {}, [], [], []
    for source in demos.folders(folder, task).values():
        if stop.is_set() or (settings.episodes and len(sizes) == settings.episodes):
            break
        where = source.relative_to(folder / task)
        keys.append(_fingerprint(source, settings.cameras))
        path = out / ".episodes" / keys[-1] / (name or "all") / task / f"{where.parts[0]}-{source.name}.npz"
        try:
            if path.is_file():
                episode = Episode.load(path)
            else:
                episode = to_episode(_checked(peract.read_demo(source)), settings.cameras, settings.image_size)
                path.parent.mkdir(parents=True, exist_ok=True)
                episode.save(path)
        except DemoError as error:
            if settings.on_error == "fail":
                raise DemoError(f"{error}; --on_error=skip leaves such episodes out and counts them") from error
            damaged.append(str(error))
            continue
        sizes[path] = rlbench_images.check_png(episode.images[settings.cameras[0]][0])[0]
        lengths.append(len(episode))
        bar.update()
    if not sizes and damaged:
        raise DemoError(f"no good episode of {task} in {folder}; {len(damaged)} are damaged: {damaged[0]}")
    mean = float(np.mean(lengths or [0]))
    return sizes, TaskReport(task, name or folder.name, len(sizes), mean, tuple(damaged), fingerprint(keys))


def content(settings: ConvertSettings, tasks: list[dict]) -> dict:
    """Names what ``convert`` would look at now, ``tasks`` being what it reported: {"episodes", "fingerprint"}."""
    jobs = [
        (name or folder.name, folder, task) for name, folder in settings.folders().items() for task in settings.tasks
    ]
    before = {(report["folder"], report["task"]): report["kept"] + len(report["damaged"]) for report in tasks}

    def work(name: str, folder: Path, task: str) -> tuple[int, str]:
        looked = before.get((name, task), 0) if settings.episodes else None
        found = list(demos.folders(folder, task).values())[:looked]
        return len(found), fingerprint([_fingerprint(source, settings.cameras) for source in found])

    with concurrent.futures.ThreadPoolExecutor(settings.workers) as pool:
        found = list(pool.map(work, *zip(*jobs)))
    return _content([(name, task, *each) for (name, _, task), each in zip(jobs, found)])


def _content(found: list[tuple[str, str, int, str]]) -> dict:
    """Of folder, task, how many were looked at, and their fingerprint."""
    return {"episodes": sum(each[2] for each in found), "fingerprint": fingerprint(found)}


def report_lines(tasks: list[dict]) -> Iterator[str]:
    """What the datasheet's task reports say, a line each, damaged episodes named."""
    for task in tasks:
        yield (
            f"{task['task']:28s} {task['folder']:8s} {task['kept']:4d} kept {len(task['damaged']):4d} damaged and skipped, "
            f"{task['mean_length']:6.1f} steps"
        )
        yield from (f"  skipped: {reason}" for reason in task["damaged"])


def details(settings: ConvertSettings, reports: list[TaskReport]) -> dict:
    """For the datasheet."""
    made_with = asdict(settings) | {"input": str(Path(settings.input).resolve())}
    looked = [(r.folder, r.task, r.kept + len(r.damaged), r.content) for r in reports]
    tasks = [{name: value for name, value in asdict(report).items() if name != "content"} for report in reports]
    return {"settings": made_with, "tasks": tasks, "content": _content(looked)}


class Peract(Source[ConvertSettings]):
    """RLBench demonstrations as ``data.download`` lays them out, or as RLBench's own tool does."""

    Settings = ConvertSettings

    def settings(self, values: Mapping[str, Any]) -> ConvertSettings:
        settings = ConvertSettings(**values)
        if settings.has_splits:
            check_undivided(settings.input, settings)
        return settings

    def collect(self, settings: ConvertSettings, out: Path) -> tuple[dict[str, list[Path]], About]:
        splits, image_size, reports = convert(settings, out)
        about = details(settings, reports)
        return splits, About(self.name, settings.cameras, image_size, STATE_NAMES, HZ, about)

    def content(self, settings: ConvertSettings, details: Mapping[str, Any]) -> dict:
        return content(settings, details["tasks"])

    def lines(self, details: Mapping[str, Any]) -> list[str]:
        return list(report_lines(details["tasks"]))
