"""Episodes that a policy left behind (``rollout/trajectory_writer.py``), read: to build a data set of, or to export.

DIR or DIR/rollouts: about.json, TASK-vV-sSEED.npz
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tqdm import tqdm

from drifting_vla_jax.core.episode import ABOUT, ROLLOUTS, Episode
from drifting_vla_jax.core.files import file_fingerprint, fingerprint
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.core.ranges import Flag, Place
from drifting_vla_jax.core.settings import Option
from drifting_vla_jax.core.suggest import did_you_mean
from drifting_vla_jax.data.sources import episode_checks
from drifting_vla_jax.data.sources.base import (
    About,
    Episodes,
    Held,
    OnError,
    Source,
    Tasks,
    check_fraction,
    held_out,
)
from drifting_vla_jax.data.sources.splits import claim


@dataclass(frozen=True)
class Rollouts:
    """A folder of episodes.

    Attributes:
      about: content of about.json: cameras, image_size, state_names, control_hz, environment, checkpoint_step, ...
      paths: the episodes' files, by name.
    """

    about: dict
    paths: list[Path]

    def of(self, tasks: tuple[str, ...] = (), only_success: bool = False) -> list[tuple[Path, Episode]]:
        """Those wanted, without their images.

        Raises:
          ValueError: there is no such task, or nothing is left.
        """
        found = [(path, Episode.load(path, images=False)) for path in self.paths]
        known = dict.fromkeys(episode.task for _, episode in found)
        for task in tasks:
            if task not in known:
                raise ValueError(f"no episode of {task!r} was recorded; {did_you_mean(task, known)}")
        chosen = [
            (path, episode)
            for path, episode in found
            if (not tasks or episode.task in tasks) and (episode.success is True or not only_success)
        ]
        if not chosen:
            why = "none is a success; without --only_success all are taken" if found else "no episode has ended yet"
            raise ValueError(f"of {len(found)} recorded episodes there is nothing to take: {why}")
        return chosen


def find(path: Path) -> Rollouts | None:
    """The episodes in this folder, or in its folder ``rollouts``; None if there are none."""
    kinds = {"cameras": list, "image_size": int, "state_names": list}
    for folder in (path, path / ROLLOUTS):
        if (folder / ABOUT).is_file():
            return Rollouts(read_dict(folder / ABOUT, kinds), sorted(folder.glob("*.npz")))
    return None


@dataclass(frozen=True)
class RolloutSettings:
    """What to make a data set of."""

    input: Annotated[
        str, Place("DIR"), Option(None, "folder of an evaluation or of an arm's episodes, run with --record")
    ]
    tasks: Tasks
    episodes: Episodes
    only_success: Annotated[bool, Flag(), Option(False, "leave out episodes that failed, and those that nobody judged")]
    val_fraction: Held
    on_error: OnError = "fail"

    def __post_init__(self):
        check_fraction(self.val_fraction)


def _chosen(settings: RolloutSettings) -> tuple[dict, dict[str, list[tuple[Path, Episode]]], dict[str, list[str]]]:
    """What the episodes have in common, those that are asked for and what is wrong with others, of each task; raises as
    ``collect`` does."""
    rollouts = find(Path(settings.input))
    if rollouts is None:
        raise ValueError(
            f"no recorded episodes in {settings.input}; evaluate with --config.eval.record=all, or run a worker or an arm "
            "with --record=all, and give their folder"
        )
    of_task: dict[str, list[tuple[Path, Episode]]] = {}
    damaged: dict[str, list[str]] = {}
    for path, episode in tqdm(rollouts.of(settings.tasks, settings.only_success), desc="episodes", unit="ep"):
        if not (found := episode_checks.fault(episode_checks.Numbers.of(episode))):
            of_task.setdefault(episode.task, []).append((path, episode))
        elif settings.on_error == "fail":
            raise episode_checks.SourceError(
                f"{path}: {found}; --on_error=skip leaves such episodes out and counts them"
            )
        else:
            damaged.setdefault(episode.task, []).append(f"{path.name}: {found}")
    if not of_task:
        raise episode_checks.SourceError(f"no good episode in {settings.input}: {next(iter(damaged.values()))[0]}")
    return rollouts.about, {task: found[: settings.episodes or len(found)] for task, found in of_task.items()}, damaged


def content(settings: RolloutSettings) -> dict:
    """Names what ``collect`` would take now: {"episodes": how many, "fingerprint": of all}; raises as it does."""
    about, of_task, _ = _chosen(settings)
    files = [file_fingerprint(path) for found in of_task.values() for path, _ in found]
    return {"episodes": len(files), "fingerprint": fingerprint(about, files)}


def collect(settings: RolloutSettings, out: Path) -> tuple[dict[str, list[Path]], dict, list[dict]]:
    """The files of each split, what the episodes have in common, and a report per task.

    Raises:
      ValueError: nothing was recorded there, or nothing of what is asked for.
    """
    about, of_task, damaged = _chosen(settings)
    claim(out / ".episodes", {"input": settings.input})
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    report = []
    for task, episodes in of_task.items():
        for (path, _), held in zip(episodes, held_out(len(episodes), settings.val_fraction)):
            splits["val" if held else "train"].append(path)
        lengths, won = [len(episode) for _, episode in episodes], sum(e.success is True for _, e in episodes)
        mean = sum(lengths) / len(lengths)
        report.append({"task": task, "kept": len(lengths), "successes": won, "mean_length": mean})
    report += [{"task": task, "damaged": reasons} for task, reasons in damaged.items()]
    return splits, about, report


def report_lines(about: dict) -> list[str]:
    """The datasheet's details as lines: a task each, then the episodes that were left out."""
    lines = [f"{t['task']:28s} {t['kept']:4d} kept, {t['successes']:4d} of them successes, {t['mean_length']:6.1f} steps"
             for t in about["tasks"] if "kept" in t]  # fmt: skip
    return lines + [f"  skipped: {reason}" for t in about["tasks"] for reason in t.get("damaged", [])]


class RecordedRollouts(Source[RolloutSettings]):
    """Episodes that a policy left behind, with the cameras and the pictures that it saw."""

    Settings = RolloutSettings

    def settings(self, values: Mapping[str, Any]) -> RolloutSettings:
        return RolloutSettings(**values | {"input": str(Path(values["input"]).resolve())})

    def collect(self, settings: RolloutSettings, out: Path) -> tuple[dict[str, list[Path]], About]:
        splits, shared, tasks = collect(settings, out)
        shape = {name: shared.pop(name) for name in ("cameras", "image_size", "state_names", "control_hz")}
        return splits, About(
            source=self.name, **shape, details={"tasks": tasks, "content": content(settings), **shared}
        )

    def content(self, settings: RolloutSettings, details: Mapping[str, Any]) -> dict:
        return content(settings)

    def lines(self, details: Mapping[str, Any]) -> list[str]:
        return report_lines(details)
