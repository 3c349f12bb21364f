"""Where demonstrations come from: one ``Source`` each, the table at the end. ``data.build`` is their command line."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from drifting_vla_jax.core.end_effector import HZ, STATE_NAMES
from drifting_vla_jax.envs.registry import ENVIRONMENTS, info
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS

if TYPE_CHECKING:  # importing it takes seconds
    from drifting_vla_jax.data.tfds_writer import DatasetInfo

FLAGS = flags.FLAGS  # those of data.build
RECORDED = {"lerobot": "lerobot_source", "rlds": "rlds_files"}  # modules, imported where they are used


@dataclasses.dataclass(frozen=True)
class Source:
    """Where demonstrations come from.

    Attributes:
      defaults: of the flags whose default depends on the source.
      own: flags of this source alone.
      settings: values of flags -> a dataclass of settings; raises ValueError.
      collect: (settings, OUT) -> the episode files of each split, and what the data set says about itself.
      lines: the datasheet's details -> lines to print.
      content: (settings, the datasheet's details) -> names the recordings that ``collect`` would take now, as details
        "content" do those that were taken: {"episodes", "fingerprint"}; None where nothing is recorded.
    """

    defaults: dict[str, Any]
    own: tuple[str, ...]
    settings: Callable[[dict], Any]
    collect: Callable[[Any, Path], tuple[dict[str, list[Path]], DatasetInfo]]
    lines: Callable[[dict], list[str]]
    content: Callable[[Any, dict], dict] | None = None


def _scripted_settings(simulator: str, values: dict) -> Any:
    from drifting_vla_jax.data.sources.scripted import CollectSettings

    tasks = info(simulator).tasks if values["tasks"] == ("all",) else values["tasks"]
    return CollectSettings(**values | {"tasks": tasks}, simulator=simulator)


def _scripted(settings: Any, out: Path) -> tuple[dict[str, list[Path]], DatasetInfo]:
    from drifting_vla_jax.data.sources import scripted as demonstrations

    report = demonstrations.collect(settings, out)
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    for task in settings.tasks:
        for index in range(settings.episodes):
            splits[settings.split(index)].append(demonstrations.episode_path(out, task, index))
    from drifting_vla_jax.data import tfds_writer  # here: the import takes seconds, the collection needs none of it

    simulator = info(settings.simulator)
    return splits, tfds_writer.DatasetInfo(
        source=settings.simulator,
        cameras=settings.cameras,
        image_size=settings.image_size,
        state_names=simulator.state_names,
        control_hz=simulator.simulator_hz / settings.frame_skip,
        details={
            "settings": dataclasses.asdict(settings),
            "tasks": [dataclasses.asdict(t) for t in report.tasks],
            "recorded": settings.recorded(),
        },
    )


def _scripted_lines(about: dict) -> list[str]:
    return [f"{t['task']:28s} {t['kept']:4d} kept {t['failed']:4d} failed and dropped, {t['replayed']:4d} replayed, "
            f"{t['mean_length']:6.1f} steps" for t in about["tasks"]]  # fmt: skip


def _scripted_source(simulator: str, **defaults: Any) -> Source:
    return Source(
        defaults={"episodes": 40, **defaults},
        own=("frame_skip", "action_noise", "hold_steps", "settle_steps", "seed", "gate"),
        settings=functools.partial(_scripted_settings, simulator),
        collect=_scripted,
        lines=_scripted_lines,
    )


def _peract_settings(values: dict) -> Any:
    from drifting_vla_jax.data.sources.rlbench.source import ConvertSettings

    if values["input"] is None:
        raise ValueError("--source=peract needs --input=DIR, a folder of RLBench demonstrations")
    settings = ConvertSettings(**values)
    if settings.has_splits and FLAGS["val_fraction"].present:
        raise ValueError(f"{settings.input} has train/ and val/ of its own: --val_fraction would mean nothing")
    return settings


def _peract(settings: Any, out: Path) -> tuple[dict[str, list[Path]], DatasetInfo]:
    from drifting_vla_jax.data.sources.rlbench import source as rlbench_source

    splits, image_size, reports = rlbench_source.convert(settings, out)
    from drifting_vla_jax.data import tfds_writer

    return splits, tfds_writer.DatasetInfo(
        source="peract",
        cameras=settings.cameras,
        image_size=image_size,
        state_names=STATE_NAMES,
        control_hz=HZ,
        details=rlbench_source.details(settings, reports),
    )


def _peract_content(settings: Any, details: dict) -> dict:
    from drifting_vla_jax.data.sources.rlbench import source as rlbench_source

    return rlbench_source.content(settings, details["tasks"])


def _peract_lines(about: dict) -> list[str]:
    from drifting_vla_jax.data.sources.rlbench.source import report_lines

    return list(report_lines(about["tasks"]))


def _recorded_settings(source: str, values: dict) -> Any:
    from drifting_vla_jax.data.sources.recorded.base import RecordedSettings

    if values["input"] is None or values["mapping"] is None:
        raise ValueError(
            f"--source={source} needs --input=DIR and --mapping=PRESET or FILE.json, see docs/reference/mapping-language.md"
        )
    if Path(values["input"]).exists():
        values["input"] = str(Path(values["input"]).resolve())
    return RecordedSettings(**values | {"mapping": _recorded_format(source).read_mapping(values["mapping"])})


def _recorded_format(source: str) -> Any:
    return importlib.import_module(f"drifting_vla_jax.data.{RECORDED[source]}")


def _recorded(source: str, settings: Any, out: Path) -> tuple[dict[str, list[Path]], DatasetInfo]:
    from drifting_vla_jax.data import tfds_writer
    from drifting_vla_jax.data.sources.recorded import convert

    files = _recorded_format(source).open_files(settings)
    if "" not in files.splits and FLAGS["val_fraction"].present:
        raise ValueError(f"{settings.input} has train and val of its own: --val_fraction would mean nothing")
    converted = convert.convert(settings, files, out)
    return converted.splits, tfds_writer.DatasetInfo(
        source=source,
        cameras=converted.cameras,
        image_size=converted.image_size,
        state_names=converted.state_names,
        control_hz=converted.control_hz,
        details=convert.details(settings, converted),
        layout=converted.layout,
    )


def _recorded_content(source: str, settings: Any, details: dict) -> dict:
    from drifting_vla_jax.data.sources.recorded import convert

    files = _recorded_format(source).open_files(settings)
    if files.revision and files.revision == details["content"]["revision"]:
        return details["content"]
    return convert.content(settings, files)


def _recorded_lines(about: dict) -> list[str]:
    from drifting_vla_jax.data.sources.recorded.convert import report_lines

    return report_lines(about)


def _recorded_source(name: str) -> Source:
    return Source(
        defaults={"tasks": (), "episodes": 0, "cameras": (), "image_size": 0},
        own=("input", "on_error", "mapping", "control_hz"),
        settings=functools.partial(_recorded_settings, name),
        collect=functools.partial(_recorded, name),
        lines=_recorded_lines,
        content=functools.partial(_recorded_content, name),
    )


def _rollouts_settings(values: dict) -> Any:
    from drifting_vla_jax.data.sources.rollouts import RolloutSettings

    if values["input"] is None:
        raise ValueError("--source=rollouts needs --input=DIR, a folder of episodes that were recorded")
    if values.pop("cameras") or values.pop("image_size"):
        raise ValueError("--cameras and --image_size: rollouts are taken as the policy saw them")
    values.pop("workers")
    return RolloutSettings(**values | {"input": str(Path(values["input"]).resolve())})


def _rollouts(settings: Any, out: Path) -> tuple[dict[str, list[Path]], DatasetInfo]:
    from drifting_vla_jax.data.sources import rollouts

    splits, shared, tasks = rollouts.collect(settings, out)
    from drifting_vla_jax.data import tfds_writer

    shape = {name: shared.pop(name) for name in ("cameras", "image_size", "state_names", "control_hz")}
    details = {
        "settings": dataclasses.asdict(settings),
        "tasks": tasks,
        "content": rollouts.content(settings),
        **shared,
    }
    return splits, tfds_writer.DatasetInfo(source="rollouts", details=details, **shape)


def _rollouts_content(settings: Any, _: dict) -> dict:
    from drifting_vla_jax.data.sources import rollouts

    return rollouts.content(settings)


def _rollouts_lines(about: dict) -> list[str]:
    from drifting_vla_jax.data.sources.rollouts import report_lines

    return report_lines(about)


SOURCES = {
    **{name: _scripted_source(name, **build) for name in ENVIRONMENTS if (build := info(name).build) is not None},
    "peract": Source(
        defaults={
            "episodes": 0,
            "cameras": CAMERAS,
            "image_size": 0,
        },
        own=("input", "on_error"),
        settings=_peract_settings,
        collect=_peract,
        lines=_peract_lines,
        content=_peract_content,
    ),
    "lerobot": _recorded_source("lerobot"),
    "rlds": _recorded_source("rlds"),
    "rollouts": Source(
        defaults={"tasks": (), "episodes": 0, "cameras": (), "image_size": 0},
        own=("input", "only_success", "on_error"),
        settings=_rollouts_settings,
        collect=_rollouts,
        lines=_rollouts_lines,
        content=_rollouts_content,
    ),
}
