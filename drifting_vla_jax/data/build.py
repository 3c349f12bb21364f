"""Command line: demonstrations -> a data set.

    python -m drifting_vla_jax.data.build --source=metaworld --tasks=drawer-open,door-open --episodes=40 --out=data/mine
    python -m drifting_vla_jax.data.build --source=robosuite --tasks=lift,stack --episodes=40 --out=data/panda
    python -m drifting_vla_jax.data.build --source=peract --input=data/rlbench --tasks=open_drawer --out=data/rlbench-set
    python -m drifting_vla_jax.data.build --source=lerobot --input=OWNER/NAME --mapping=ee_euler --out=data/arm
    python -m drifting_vla_jax.data.build --source=rlds --input=DIR --mapping=libero --out=data/libero
    python -m drifting_vla_jax.data.build --source=rollouts --input=runs/mine/eval/ID --only_success --out=data/own

metaworld and robosuite collect with scripted experts and replay every episode's targets open loop (the gate). peract
converts RLBench demonstrations as data.download lays them out, or as RLBench's own tool does. lerobot and rlds read what
others recorded; a mapping says whose numbers are what (docs/reference/mapping-language.md). rollouts are episodes that a
policy left behind: an evaluation's or an arm's that were run with --record. Each writes a TFDS data set. Stopped and
started again it goes on with what is missing; a finished data set is left alone, and refused where --input has changed
since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from absl import flags

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.data.sources import SOURCES
from drifting_vla_jax.envs.rlbench.tasks import CAMERAS

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)
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
        *ranges.COUNT.bounds,
    )
    cli.define_path("out", None, "directory of the data set", writes="folder", required=True)
    flags.DEFINE_list(
        "cameras",
        None,
        f"views, in order (metaworld: top,zoom; robosuite: agentview,wrist; peract: all of {', '.join(CAMERAS)}; lerobot, rlds: "
        "the mapping's, or all)",
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "pixels, height and width of every view (metaworld: 64; robosuite: 96; others: as is)",
        8,
        ranges.PIXELS.high,
    )
    flags.DEFINE_float(
        "val_fraction", 0.1, "share of the episodes held out for validation (not of recordings: of each task's), unless "
        "--input has splits of its own", 0.0, 1.0)  # fmt: skip
    flags.DEFINE_integer(
        "workers", 2, "simulator processes, or tasks or episodes converted at once", *ranges.PROCESSES.bounds
    )
    flags.DEFINE_bool("keep_episodes", False, "keep the episode files beside the data set")
    flags.DEFINE_integer(
        "frame_skip", None, "metaworld (2), robosuite (25): simulator steps per control step", *ranges.FRAME_SKIP.bounds
    )
    flags.DEFINE_float(
        "action_noise",
        None,
        "standard deviation of the noise on the expert's commands; metaworld (0.4): of a simulator step's, -1 .. 1; robosuite "
        "(0.2): centimetres, and as many times 3 degrees, of a control step's target",
        0.0,
        10.0,
    )
    flags.DEFINE_integer(
        "hold_steps",
        12,
        f"{_SCRIPTED}: control steps that success must hold before an episode ends",
        *ranges.COUNT.bounds,
    )
    flags.DEFINE_integer(
        "settle_steps",
        2,
        f"{_SCRIPTED}: control steps of success for which the expert goes on before it holds still",
        *ranges.COUNT.bounds,
    )
    flags.DEFINE_integer("seed", 0, f"{_SCRIPTED}: of the scenes and the noise", *ranges.FIRST_SEED.bounds)
    flags.DEFINE_float(
        "gate", 0.95, f"{_SCRIPTED}: least share of a task's episodes whose replayed targets must succeed", 0.0, 1.0
    )
    cli.define_path(
        "input",
        None,
        "peract: folder of the demonstrations, with train/ and val/ or with tasks; lerobot: folder or OWNER/NAME of the "
        "Hugging Face hub; rlds: folder with dataset_info.json; rollouts: folder of an evaluation, or of an arm's episodes",
        hub=True,
    )
    flags.DEFINE_enum(
        "on_error",
        "fail",
        ["fail", "skip"],
        "peract, lerobot, rlds, rollouts: what a damaged episode does; skipped ones are counted",
    )
    cli.define_path("mapping", None, "lerobot, rlds: name of a preset, or JSON file: whose numbers are what")
    flags.DEFINE_float(
        "control_hz",
        0.0,
        "lerobot, rlds: steps per second, rows nearest in time are taken; 0: as recorded",
        *ranges.HZ.bounds,
    )

    flags.DEFINE_bool("only_success", False, "rollouts: leave out those that failed, and those that nobody judged")


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
      ValueError: a finished data set is there that was made with other settings, or of other recordings than there are now.
      InUseError: another process builds there.
    """
    finished = (out / "demonstrations" / "1.0.0" / "metadata.json").is_file()  # may be read-only
    with contextlib.nullcontext() if finished else owned(out):
        return _build(settings, out, source, keep_episodes)


def _build(settings: Any, out: Path, source: str, keep_episodes: bool) -> Path:
    folder = out / "demonstrations" / "1.0.0"
    if (folder / "metadata.json").is_file():
        metadata = _metadata(folder)
        _check_same(metadata, source, settings, out)
        _check_content(metadata["details"], source, settings, folder)
        return folder
    splits, about = SOURCES[source].collect(settings, out)
    from drifting_vla_jax.data import tfds_writer
    from drifting_vla_jax.data.sources import episode_checks

    episode_checks.check_rate(about.control_hz)
    episode_checks.check_files(splits)
    folder = tfds_writer.write(out, splits, about)
    if not keep_episodes:
        shutil.rmtree(out / ".episodes")
    return folder


def _metadata(folder: Path) -> dict:
    kinds = {"source": str, "details": dict, "episodes": dict, "state_names": list}
    return read_dict(folder / "metadata.json", kinds, advice="build the data set again")


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


def _check_content(details: dict, source: str, settings: Any, folder: Path) -> None:
    """That the recordings are still those that the data set was made of; where nobody can tell any more, that is said."""
    otherwise = _recorded_otherwise(details.get("recorded", {}), settings)
    if otherwise:
        log.warning("%s is left as it is; it would be recorded otherwise now: %s", folder, "; ".join(otherwise))
    made, find = details.get("content"), SOURCES[source].content
    if made is None or find is None:
        return
    try:
        now = find(settings, details)
    except (ValueError, OSError, RuntimeError) as error:  # deleted to save room, damaged, or out of reach
        log.warning("%s is left as it is; whether its recordings have changed cannot be told: %s", folder, error)
        return
    if now["fingerprint"] != made["fingerprint"]:
        raise ValueError(
            f"{settings.input} has other recordings now ({now['episodes']} episodes) than {folder} was made of "
            f"({made['episodes']}); choose another --out, or remove {folder.parent} to build it again"
        )


def _recorded_otherwise(before: dict, settings: Any) -> list[str]:
    """What a simulator's episodes depend on and has changed: versions, mostly; nothing where it is not installed."""
    try:
        now = settings.recorded() if before else {}
    except importlib.metadata.PackageNotFoundError:
        return []
    return [f"{name} {value} -> {now.get(name)}" for name, value in before.items() if now.get(name) != value]


def summary(folder: Path) -> str:
    """A few lines about a data set: its tasks, what was dropped, what the replay gate said, how to train on other layouts."""
    metadata = _metadata(folder)
    steps = sum(e["length"] for split in metadata["episodes"].values() for e in split)
    lines = [*SOURCES[metadata["source"]].lines(metadata["details"]), f"{steps} steps in {folder}"]
    if "val" not in metadata["episodes"]:
        lines.append("no episode is held out: training on it reports no validation errors and draws no figures")
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
