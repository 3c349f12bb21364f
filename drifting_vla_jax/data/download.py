"""Command line: RLBench demonstrations of PerAct's 18 tasks, from the Hugging Face hub to folders.

    python -m drifting_vla_jax.data.download --list
    python -m drifting_vla_jax.data.download --tasks=open_drawer,push_buttons --splits=train,val --out=data/rlbench

    OUT/<split>/<task>/all_variations/episodes/episode<N>/    what data.build --source=peract --input=OUT reads
    OUT/<split>/<task>/.download.json                         written last: this part is done
    OUT/.archives/data/<split>/<task>.zip                     until it is unpacked

A part is one task of one split (hqfang/RLBench-18-Tasks: 100, 25 and 25 episodes; 116 GB in all). Parts are fetched
several at once; an interrupted one goes on where it was; one that fails is named at the end, the others are finished.
HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN mean what they mean everywhere.
"""

from __future__ import annotations

import difflib
import json
import logging
import queue
import shutil
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from tqdm import tqdm

from drifting_vla_jax.core import cli, hub, ranges
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.core.metadata import read_json
from drifting_vla_jax.data import archive
from drifting_vla_jax.envs.rlbench.tasks import TASKS

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)

REPOSITORY = "hqfang/RLBench-18-Tasks"
SPLITS = {"train": 100, "val": 25, "test": 25}  # episodes of each task
MARKER = ".download.json"
ON_DISK = (
    1.15  # unpacked bytes over bytes of the archive: pictures are compressed already, small files take whole blocks
)


class DownloadError(RuntimeError):
    """Parts that are still missing, each with its reason."""


def define_flags() -> None:
    flags.DEFINE_bool("list", False, "print the tasks with their sizes, fetch nothing")
    flags.DEFINE_list("tasks", list(TASKS), "task names, comma-separated")
    flags.DEFINE_list("splits", ["train", "val"], "some of train, val, test")
    flags.DEFINE_integer("episodes", 0, "unpack the first N of each part; 0: all", *ranges.SEVERAL.bounds)
    cli.define_path("out", None, "directory of the demonstrations", writes="folder")
    flags.DEFINE_integer("workers", 4, "parts fetched at once", *ranges.PROCESSES.bounds)
    flags.DEFINE_bool("keep_archives", False, "keep the .zip files beside what was unpacked")
    flags.DEFINE_string("repository", REPOSITORY, "a data set of the hub with data/<split>/<task>.zip")


@dataclass(frozen=True)
class Part:
    """One task of one split."""

    split: str
    task: str

    @property
    def file(self) -> str:
        return f"data/{self.split}/{self.task}.zip"

    def folder(self, out: Path) -> Path:
        return out / self.split / self.task

    def __str__(self) -> str:
        return f"{self.split}/{self.task}"


@dataclass(frozen=True)
class Job:
    """How parts are fetched: from which repository to where, how many episodes (0: all), archives kept or not."""

    repository: str
    out: Path
    episodes: int
    keep_archives: bool


def sizes(repository: str, splits: list[str]) -> dict[Part, int]:
    """Bytes of every archive on the hub.

    Raises:
      DownloadError: the hub cannot be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    found = {}
    for split in splits:
        try:
            for entry in HfApi().list_repo_tree(repository, f"data/{split}", repo_type="dataset"):
                if isinstance(entry, RepoFile) and entry.path.endswith(".zip"):
                    found[Part(split, Path(entry.path).stem)] = entry.size
        except RemoteEntryNotFoundError:
            continue  # a repository without this split: its parts are then missing
        except hub.errors() as error:  # network, offline, no such repository
            raise DownloadError(f"the hub does not say what {repository} holds ({hub.reason(error)})") from error
    return found


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")


def listing(found: dict[Part, int]) -> Iterator[str]:
    """A table of sizes in GB: tasks down, splits across."""
    splits = list(dict.fromkeys(part.split for part in found))
    yield f"{'GB':32s}" + "".join(f"{split:>9s}" for split in splits)
    for task in sorted({part.task for part in found}):
        yield f"{task:32s}" + "".join(f"{found[Part(s, task)] / 1e9:9.2f}" if Part(s, task) in found else f"{'-':>9s}"
                                      for s in splits)  # fmt: skip
    yield f"{'all':32s}" + "".join(f"{sum(n for p, n in found.items() if p.split == s) / 1e9:9.2f}" for s in splits)


def is_done(part: Part, job: Job) -> bool:
    """Whether a part was unpacked with as many episodes as are wanted, or all there are, and these are still there.

    Raises:
      DownloadError: it is another repository's.
    """
    marker = part.folder(job.out) / MARKER
    if not marker.is_file():
        return False
    about = read_json(marker, advice="delete it to fetch them again")
    if about.text("repository", job.repository) != job.repository:
        raise DownloadError(
            f"{marker.parent} was fetched from {about.text('repository')}, not from {job.repository}; choose another --out"
        )
    if not all((archive.base(marker.parent) / name).is_dir() for name in about.texts("episodes", ())):
        return False
    held = about.integer("held")
    return about.integer("unpacked") >= min(job.episodes or held, held)


def fetch(part: Part, job: Job) -> str:
    """Downloads, unpacks and verifies a part; returns a line about it.

    Raises:
      DownloadError, ArchiveError, OSError: it is not there, damaged, or does not fit.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    archives = job.out / ".archives"
    try:
        path = Path(hf_hub_download(job.repository, part.file, repo_type="dataset", local_dir=archives))
    except RemoteEntryNotFoundError as error:
        raise DownloadError(f"{job.repository} has no {part.file}") from error
    except hub.errors() as error:
        raise DownloadError(hub.reason(error)) from error
    try:
        unpacked, held = archive.unpack(path, part.folder(job.out), job.episodes)
    except archive.ArchiveError as error:
        path.unlink()  # the next start fetches it again
        raise archive.ArchiveError(f"{part.file}: {error}; start again to fetch it again") from error
    marker = part.folder(job.out) / MARKER
    about = {"unpacked": unpacked, "held": held, "repository": job.repository}
    there = sorted(path.name for path in archive.base(marker.parent).glob("episode*"))
    write_atomically(marker, json.dumps(about | {"episodes": there}))
    if not job.keep_archives:
        path.unlink()
    expected = SPLITS.get(part.split, held)
    return f"{part}: {unpacked} episodes" + (f"; the archive has {held}, not {expected}" if held != expected else "")


def check_room(parts: list[Part], found: dict[Part, int], job: Job, workers: int) -> None:
    """Before anything is fetched: what is unpacked, and the archives that lie there at the same time, must fit.

    Raises:
      OSError: they do not; says how much is needed and free.
    """
    known = {part: found[part] for part in parts if part in found}
    share = {p: min(1.0, job.episodes / SPLITS.get(p.split, job.episodes)) if job.episodes else 1.0 for p in known}
    unpacked = sum(ON_DISK * size * share[part] for part, size in known.items())
    beside = sorted(known.values(), reverse=True)[: None if job.keep_archives else workers]
    job.out.mkdir(parents=True, exist_ok=True)
    needed, free = unpacked + sum(beside), shutil.disk_usage(job.out).free
    log.info("%d parts, %.2f GB to fetch; %.2f GB needed on disk, %.2f GB free",
             len(parts), sum(known.values()) / 1e9, needed / 1e9, free / 1e9)  # fmt: skip
    if needed > free:
        raise OSError(
            f"{needed / 1e9:.2f} GB are needed in {job.out} (archives in passing included), {free / 1e9:.2f} GB are free; "
            "ask for fewer --tasks, --splits or --episodes, or fewer --workers"
        )


def fetch_all(parts: list[Part], job: Job, workers: int) -> dict[Part, str]:
    """Fetches parts several at once; returns the reasons of those that failed.

    The threads are daemons: Ctrl-C ends the process at once, and what is half done is found by the next start.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    results: queue.SimpleQueue = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)

    def work() -> None:
        while True:
            try:
                part = waiting.get_nowait()
            except queue.Empty:
                return
            line, error = None, "stopped by a fault of this program, see above"
            try:
                line = fetch(part, job)
            except (DownloadError, ValueError, OSError) as reason:
                error = _short(reason)
            finally:  # whatever happened: the main thread waits for as many results as there are parts
                results.put((part, line, error))

    for _ in range(min(workers, len(parts))):
        threading.Thread(target=work, daemon=True).start()
    failed = {}
    with tqdm(total=len(parts), desc="parts", unit="part", dynamic_ncols=True) as bar:
        for _ in parts:
            part, line, error = results.get()
            if line is None:
                failed[part] = error
            bar.write(line or f"{part}: FAILED, {error}")
            bar.update()
    return {part: failed[part] for part in parts if part in failed}


def download(tasks: list[str], splits: list[str], job: Job, workers: int) -> None:
    """Brings every part that is not done.

    Raises:
      ValueError: a split or task that nobody knows.
      OSError: too little room.
      DownloadError: parts that failed, with their reasons; the others are done.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits or not tasks:
        raise ValueError(
            f"--splits={','.join(splits)}: expected some of {', '.join(SPLITS)}, and at least one of --tasks"
        )
    parts = [part for split in splits for task in tasks if not is_done(part := Part(split, task), job)]
    log.info("%d of %d parts are done already", len(splits) * len(tasks) - len(parts), len(splits) * len(tasks))
    if not parts:
        return
    try:
        found = sizes(job.repository, splits)
    except DownloadError as error:  # archives may lie in OUT/.archives: each part says for itself
        log.warning("%s", error)
        found = {}
    names = sorted({part.task for part in found}) or TASKS
    for task in tasks:
        if task not in names and difflib.get_close_matches(task, names, 1, 0.75):
            near = difflib.get_close_matches(task, names, 1, 0.75)[0]
            raise ValueError(f"{job.repository} has no task {task!r}; did you mean {near!r}?")
    check_room(parts, found, job, workers)
    failed = fetch_all(parts, job, workers)
    if failed:
        reasons = "; ".join(f"{part} ({reason})" for part, reason in failed.items())
        raise DownloadError(f"{len(failed)} of {len(parts)} parts are missing: {reasons}. The same command goes on")


def main(_) -> None:
    if FLAGS.list:
        found = sizes(FLAGS.repository, FLAGS.splits if FLAGS["splits"].present else list(SPLITS))
        wanted = set(FLAGS.tasks) if FLAGS["tasks"].present else {part.task for part in found}
        print("\n".join(listing({part: size for part, size in found.items() if part.task in wanted})))
        return
    if not FLAGS.out:
        raise ValueError("say where to with --out=DIR, or look first with --list")
    job = Job(FLAGS.repository, Path(FLAGS.out), FLAGS.episodes, FLAGS.keep_archives)
    with owned(job.out):
        download(FLAGS.tasks, FLAGS.splits, job, FLAGS.workers)
    print(f"{len(FLAGS.splits) * len(FLAGS.tasks)} parts are in {job.out}; next: python -m drifting_vla_jax.data.build "
          f"--source=peract --input={job.out} --tasks={','.join(FLAGS.tasks)} --out=...")  # fmt: skip


if __name__ == "__main__":
    define_flags()
    cli.run(main)
