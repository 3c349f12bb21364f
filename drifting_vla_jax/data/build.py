"""Command line: demonstrations -> a data set.

    python -m drifting_vla_jax.data.build --source=metaworld --tasks=drawer-open,door-open --episodes=40 --out=data/mine
    python -m drifting_vla_jax.data.build --source=robosuite --tasks=lift,stack --episodes=40 --out=data/panda
    python -m drifting_vla_jax.data.build --source=peract --input=data/rlbench --tasks=open_drawer --out=data/rlbench-set
    python -m drifting_vla_jax.data.build --source=lerobot --input=OWNER/NAME --mapping=ee_euler --out=data/arm
    python -m drifting_vla_jax.data.build --source=rlds --input=DIR --mapping=libero --out=data/libero
    python -m drifting_vla_jax.data.build --source=rollouts --input=runs/mine/eval/ID --only_success --out=data/own

metaworld and robosuite collect with scripted experts and replay every episode's targets open loop (the gate). peract
converts RLBench demonstrations as data.download lays them out, or as RLBench's own tool does. lerobot and rlds read what
others recorded; a mapping says whose numbers are what (docs/sources.md). rollouts are episodes that a policy left behind:
an evaluation's or an arm's that were run with --record. Each writes a TFDS data set. Stopped and started
again it goes on with what is missing; a finished data set is left alone.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from drifting_vla_jax import cli
from drifting_vla_jax.envs.env import environment_class
from drifting_vla_jax.envs.rlbench_state import HZ, STATE_NAMES
from drifting_vla_jax.envs.rlbench_tasks import CAMERAS
from drifting_vla_jax.layouts import END_EFFECTOR, ActionLayout

if TYPE_CHECKING:  # importing it takes seconds
    from drifting_vla_jax.data.builder import About

FLAGS = flags.FLAGS
RECORDED = {"lerobot": "lerobot_source", "rlds": "rlds_files"}  # modules, imported where they are used
_SCRIPTED = "metaworld, robosuite"  # simulators with scripted experts
MAY_CHANGE = ("workers", "gate")  # settings that a finished data set does not depend on


def define_flags() -> None:
    flags.DEFINE_enum("source", None, list(SOURCES), "where the demonstrations come from", required=True)
    flags.DEFINE_list(
        "tasks",
        None,
        "task names, comma-separated; metaworld: or all; peract: names of folders, such as open_drawer; lerobot, rlds: "
        "instructions as pick-up-the-cube (all)",
    )
    flags.DEFINE_integer(
        "episodes",
        None,
        "good episodes per task (metaworld, robosuite: 40, validation included; others: of each split, all)",
        1,
    )
    flags.DEFINE_string("out", None, "directory of the data set", required=True)
    flags.DEFINE_list(
        "cameras",
        None,
        f"views, in order (metaworld: top,zoom; robosuite: agentview,wrist; peract: all of {', '.join(CAMERAS)}; lerobot, rlds: "
        "the mapping's, or all)",
    )
    flags.DEFINE_integer(
        "image_size", None, "pixels, height and width of every view (metaworld: 64; robosuite: 96; others: as is)", 8
    )
    flags.DEFINE_float(
        "val_fraction", 0.1, "share of the episodes held out for validation (not of recordings: of each task's), unless "
        "--input has splits of its own"
    )  # fmt: skip
    flags.DEFINE_integer("workers", 2, "simulator processes, or tasks or episodes converted at once", lower_bound=1)
    flags.DEFINE_bool("keep_episodes", False, "keep the episode files beside the data set")
    flags.DEFINE_integer("frame_skip", None, "metaworld (2), robosuite (25): simulator steps per control step", 1)
    flags.DEFINE_float(
        "action_noise",
        None,
        "standard deviation of the noise on the expert's commands; metaworld (0.4): of a simulator step's, -1 .. 1; robosuite "
        "(0.2): centimetres, and as many times 3 degrees, of a control step's target",
    )
    flags.DEFINE_integer(
        "hold_steps", 12, f"{_SCRIPTED}: control steps that success must hold before an episode ends", 1
    )
    flags.DEFINE_integer(
        "settle_steps",
        2,
        f"{_SCRIPTED}: control steps of success for which the expert goes on before it holds still",
        1,
    )
    flags.DEFINE_integer("seed", 0, f"{_SCRIPTED}: of the scenes and the noise")
    flags.DEFINE_float(
        "gate", 0.95, f"{_SCRIPTED}: least share of a task's episodes whose replayed targets must succeed"
    )
    flags.DEFINE_string(
        "input",
        None,
        "peract: folder of the demonstrations, with train/ and val/ or with tasks; lerobot: folder or OWNER/NAME of the "
        "Hugging Face hub; rlds: folder with dataset_info.json; rollouts: folder of an evaluation, or of an arm's episodes",
    )
    flags.DEFINE_enum(
        "on_error",
        "fail",
        ["fail", "skip"],
        "peract, lerobot, rlds: what a damaged episode does; skipped ones are counted",
    )
    flags.DEFINE_string("mapping", None, "lerobot, rlds: name of a preset, or JSON file: whose numbers are what")
    flags.DEFINE_float(
        "control_hz", 0.0, "lerobot, rlds: steps per second, rows nearest in time are taken; 0: as recorded", 0.0
    )

    flags.DEFINE_bool("only_success", False, "rollouts: leave out those that failed, and those that nobody judged")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where demonstrations come from.

    Attributes:
      defaults: of the flags whose default depends on the source.
      own: flags of this source alone.
      settings: values of flags -> a dataclass of settings; raises ValueError.
      collect: (settings, OUT) -> the episode files of each split, and what the data set says about itself.
      lines: the datasheet's details -> lines to print.
    """

    defaults: dict[str, Any]
    own: tuple[str, ...]
    settings: Callable[[dict], Any]
    collect: Callable[[Any, Path], tuple[dict[str, list[Path]], About]]
    lines: Callable[[dict], list[str]]


def _scripted_settings(simulator: str, values: dict) -> Any:
    from drifting_vla_jax.data.demonstrations import CollectSettings

    tasks = environment_class(simulator).tasks if values["tasks"] == ("all",) else values["tasks"]
    return CollectSettings(**values | {"tasks": tasks}, simulator=simulator)


def _scripted(settings: Any, out: Path) -> tuple[dict[str, list[Path]], About]:
    from drifting_vla_jax.data import demonstrations

    report = demonstrations.collect(settings, out)
    splits: dict[str, list[Path]] = {"train": [], "val": []}
    for task in settings.tasks:
        for index in range(settings.episodes):
            splits[settings.split(index)].append(demonstrations.episode_path(out, task, index))
    from drifting_vla_jax.data import builder  # here: the import takes seconds, the collection needs none of it

    simulator = environment_class(settings.simulator)
    return splits, builder.About(
        source=settings.simulator,
        cameras=settings.cameras,
        image_size=settings.image_size,
        state_names=simulator.state_names,
        control_hz=simulator.simulator_hz / settings.frame_skip,
        details={"settings": dataclasses.asdict(settings), "tasks": [dataclasses.asdict(t) for t in report.tasks]},
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
    from drifting_vla_jax.data.rlbench_source import ConvertSettings

    if values["input"] is None:
        raise ValueError("--source=peract needs --input=DIR, a folder of RLBench demonstrations")
    settings = ConvertSettings(**values)
    if settings.has_splits and FLAGS["val_fraction"].present:
        raise ValueError(f"{settings.input} has train/ and val/ of its own: --val_fraction would mean nothing")
    return settings


def _peract(settings: Any, out: Path) -> tuple[dict[str, list[Path]], About]:
    from drifting_vla_jax.data import rlbench_source

    splits, image_size, reports = rlbench_source.convert(settings, out)
    from drifting_vla_jax.data import builder

    return splits, builder.About(
        source="peract",
        cameras=settings.cameras,
        image_size=image_size,
        state_names=STATE_NAMES,
        control_hz=HZ,
        details=rlbench_source.details(settings, reports),
    )


def _peract_lines(about: dict) -> list[str]:
    from drifting_vla_jax.data.rlbench_source import report_lines

    return list(report_lines(about["tasks"]))


def _recorded_settings(source: str, values: dict) -> Any:
    from drifting_vla_jax.data.recordings import RecordedSettings

    if values["input"] is None or values["mapping"] is None:
        raise ValueError(f"--source={source} needs --input=DIR and --mapping=PRESET or FILE.json, see docs/sources.md")
    if Path(values["input"]).exists():
        values["input"] = str(Path(values["input"]).resolve())
    return RecordedSettings(**values | {"mapping": _recorded_format(source).read_mapping(values["mapping"])})


def _recorded_format(source: str) -> Any:
    return importlib.import_module(f"drifting_vla_jax.data.{RECORDED[source]}")


def _recorded(source: str, settings: Any, out: Path) -> tuple[dict[str, list[Path]], About]:
    from drifting_vla_jax.data import builder, convert

    files = _recorded_format(source).open_files(settings)
    if "" not in files.splits and FLAGS["val_fraction"].present:
        raise ValueError(f"{settings.input} has train and val of its own: --val_fraction would mean nothing")
    converted = convert.convert(settings, files, out)
    return converted.splits, builder.About(
        source=source,
        cameras=converted.cameras,
        image_size=converted.image_size,
        state_names=converted.state_names,
        control_hz=converted.control_hz,
        details=convert.details(settings, converted),
        layout=converted.layout,
    )


def _recorded_lines(about: dict) -> list[str]:
    from drifting_vla_jax.data.convert import report_lines

    return report_lines(about)


def _recorded_source(name: str) -> Source:
    return Source(
        defaults={"tasks": (), "episodes": 0, "cameras": (), "image_size": 0},
        own=("input", "on_error", "mapping", "control_hz"),
        settings=functools.partial(_recorded_settings, name),
        collect=functools.partial(_recorded, name),
        lines=_recorded_lines,
    )


def _rollouts_settings(values: dict) -> Any:
    from drifting_vla_jax.data.rollouts import RolloutSettings

    if values["input"] is None:
        raise ValueError("--source=rollouts needs --input=DIR, a folder of episodes that were recorded")
    if values.pop("cameras") or values.pop("image_size"):
        raise ValueError("--cameras and --image_size: rollouts are taken as the policy saw them")
    values.pop("workers")
    return RolloutSettings(**values | {"input": str(Path(values["input"]).resolve())})


def _rollouts(settings: Any, out: Path) -> tuple[dict[str, list[Path]], About]:
    from drifting_vla_jax.data import rollouts

    splits, shared, tasks = rollouts.collect(settings, out)
    from drifting_vla_jax.data import builder

    shape = {name: shared.pop(name) for name in ("cameras", "image_size", "state_names", "control_hz")}
    details = {"settings": dataclasses.asdict(settings), "tasks": tasks, **shared}
    return splits, builder.About(source="rollouts", details=details, **shape)


def _rollouts_lines(about: dict) -> list[str]:
    from drifting_vla_jax.data.rollouts import report_lines

    return report_lines(about)


SOURCES = {
    "metaworld": _scripted_source("metaworld", cameras=("top", "zoom"), image_size=64, frame_skip=2, action_noise=0.4),
    "robosuite": _scripted_source(
        "robosuite", cameras=("agentview", "wrist"), image_size=96, frame_skip=25, action_noise=0.2
    ),
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
    ),
    "lerobot": _recorded_source("lerobot"),
    "rlds": _recorded_source("rlds"),
    "rollouts": Source(
        defaults={"tasks": (), "episodes": 0, "cameras": (), "image_size": 0},
        own=("input", "only_success"),
        settings=_rollouts_settings,
        collect=_rollouts,
        lines=_rollouts_lines,
    ),
}


def read_settings() -> Any:
    """The settings that the command line asks for.

    Raises:
      ValueError: a flag of another source was given, or a value makes no sense.
    """
    source = SOURCES[FLAGS.source]
    for name, other in SOURCES.items():
        foreign = [f"--{flag}" for flag in other.own if FLAGS[flag].present and flag not in source.own]
        if foreign:
            raise ValueError(f"{', '.join(foreign)} is for --source={name}; --source={FLAGS.source} has no such choice")
    if FLAGS.tasks is None and "tasks" not in source.defaults:
        raise ValueError(f"--source={FLAGS.source} needs --tasks=NAME,...")
    names = ("tasks", "episodes", "cameras", "image_size", "val_fraction", "workers", *source.own)
    values = {name: source.defaults[name] if FLAGS[name].value is None and name in source.defaults else FLAGS[name].value
              for name in names}  # fmt: skip
    return source.settings(values | {"tasks": tuple(values["tasks"]), "cameras": tuple(values["cameras"])})


def build(settings: Any, out: Path, source: str, keep_episodes: bool) -> Path:
    """Collects what is missing and writes the data set, unless it is there; returns its folder.

    Raises:
      ValueError: a finished data set is there that was made with other settings.
    """
    folder = out / "demonstrations" / "1.0.0"
    if (folder / "metadata.json").is_file():
        _check_same(json.loads((folder / "metadata.json").read_text()), source, settings, out)
        return folder
    splits, about = SOURCES[source].collect(settings, out)
    from drifting_vla_jax.data import builder

    folder = builder.write(out, splits, about)
    if not keep_episodes:
        shutil.rmtree(out / ".episodes")
    return folder


def _check_same(metadata: dict, source: str, settings: Any, out: Path) -> None:
    made = {"source": metadata["source"], **metadata["details"].get("settings", {})}
    wanted = {"source": source, **json.loads(json.dumps(dataclasses.asdict(settings)))}
    if wanted.get("input") and Path(wanted["input"]).exists():
        wanted["input"] = str(Path(wanted["input"]).resolve())
    changed = [f"{key} {made[key]} -> {value}" for key, value in wanted.items()
               if key not in MAY_CHANGE and made.get(key, value) != value]  # fmt: skip
    if changed:
        raise ValueError(f"{out} holds a data set made with other settings ({'; '.join(changed)}); choose another --out, "
                         "or remove it")  # fmt: skip


def summary(folder: Path) -> str:
    """A few lines about a data set: its tasks, what was dropped, what the replay gate said, how to train on other layouts."""
    metadata = json.loads((folder / "metadata.json").read_text())
    steps = sum(e["length"] for split in metadata["episodes"].values() for e in split)
    lines = [*SOURCES[metadata["source"]].lines(metadata["details"]), f"{steps} steps in {folder}"]
    layout = ActionLayout.from_json(metadata.get("layout"))
    if layout != END_EFFECTOR:
        keys = {"action.layout": layout.name, "action.joints": layout.joints, "action.grippers": layout.grippers}
        keys["env.state_dim"] = len(metadata["state_names"])
        lines += [f"config.{key} = {value!r}" for key, value in keys.items() if value]
    return "\n".join(lines)


def main(_) -> None:
    print(summary(build(read_settings(), Path(FLAGS.out), FLAGS.source, FLAGS.keep_episodes)))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
