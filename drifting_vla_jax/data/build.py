"""Command line: demonstrations -> a data set.

    python -m drifting_vla_jax.data.build --source=metaworld --tasks=drawer-open,door-open --episodes=40 --out=data/mine

Collects with the simulator's scripted experts, replays every episode's targets open loop (the gate), and writes a TFDS
data set. Stopped and started again it goes on with what is missing; a finished data set is left alone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

from absl import flags

from drifting_vla_jax import cli
from drifting_vla_jax.data import demonstrations
from drifting_vla_jax.envs.metaworld import SIMULATOR_HZ, MetaWorld

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_enum("source", None, ["metaworld"], "where the demonstrations come from", required=True)
    flags.DEFINE_list("tasks", None, "task names, comma-separated", required=True)
    flags.DEFINE_integer("episodes", 40, "episodes per task, validation included", lower_bound=2)
    flags.DEFINE_string("out", None, "directory of the data set", required=True)
    flags.DEFINE_list("cameras", ["top", "zoom"], "views, in order")
    flags.DEFINE_integer("image_size", 64, "pixels, height and width of every view", lower_bound=8)
    flags.DEFINE_integer("frame_skip", 2, "simulator steps per control step", lower_bound=1)
    flags.DEFINE_float("action_noise", 0.4, "standard deviation of the noise on the expert's command (-1 .. 1)")
    flags.DEFINE_integer("hold_steps", 12, "control steps that success must hold before an episode ends", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the scenes and the noise")
    flags.DEFINE_float("val_fraction", 0.1, "share of each task's episodes held out for validation")
    flags.DEFINE_float("gate", 0.95, "least share of a task's episodes whose replayed targets must succeed")
    flags.DEFINE_integer("workers", 2, "simulator processes", lower_bound=1)
    flags.DEFINE_bool("keep_episodes", False, "keep the episode files beside the data set")


def build(settings: demonstrations.CollectSettings, out: Path, keep_episodes: bool) -> Path:
    """Collects what is missing and writes the data set; returns its folder."""
    report = demonstrations.collect(settings, out)
    from drifting_vla_jax.data import builder  # here: the import takes seconds, the collection needs none of it

    splits = {"train": [], "val": []}
    for task in settings.tasks:
        for index in range(settings.episodes):
            splits[settings.split(index)].append(demonstrations.episode_path(out, task, index))
    about = builder.About(
        source="metaworld",
        cameras=settings.cameras,
        image_size=settings.image_size,
        state_names=MetaWorld.state_names,
        control_hz=SIMULATOR_HZ / settings.frame_skip,
        details={"settings": dataclasses.asdict(settings), "tasks": [dataclasses.asdict(t) for t in report.tasks]},
    )
    folder = builder.write(out, splits, about)
    if not keep_episodes:
        shutil.rmtree(out / ".episodes")
    return folder


def summary(folder: Path) -> str:
    """A few lines about a data set: its tasks, what was dropped, what the replay gate said."""
    metadata = json.loads((folder / "metadata.json").read_text())
    steps = sum(e["length"] for split in metadata["episodes"].values() for e in split)
    lines = [f"{t['task']:28s} {t['kept']:4d} kept {t['failed']:4d} failed and dropped, {t['replayed']:4d} replayed, "
             f"{t['mean_length']:6.1f} steps" for t in metadata["details"]["tasks"]]  # fmt: skip
    return "\n".join([*lines, f"{steps} steps in {folder}"])


def main(_) -> None:
    out = Path(FLAGS.out)
    fields = {f.name: getattr(FLAGS, f.name) for f in dataclasses.fields(demonstrations.CollectSettings)}
    fields |= {"tasks": tuple(FLAGS.tasks), "cameras": tuple(FLAGS.cameras)}
    settings = demonstrations.CollectSettings(**fields)
    folder = out / "demonstrations" / "1.0.0"
    if not (folder / "metadata.json").is_file():
        folder = build(settings, out, FLAGS.keep_episodes)
    print(summary(folder))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
