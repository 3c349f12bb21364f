"""Command line: episodes of a data set, or of an evaluation, as a recording for the rerun viewer (rerun.io).

    python -m drifting_vla_jax.report.rerun_export --data=data/mine --out=mine.rrd [--tasks=a,b] [--episodes=3]
    python -m drifting_vla_jax.report.rerun_export --evaluation=runs/mine/eval/step2000-seed7 --out=eval.rrd

Needs the extra [rerun]; ``rerun FILE.rrd`` opens it, a tab per episode. Every episode is a tree of its own:

    data          SPLIT_NUMBER_TASK/   instruction, cameras/NAME, world/{hand,target} with their paths, action/NAME, state/NAME
                                       on two time lines: step, and time (seconds)
    evaluation    TASK_vN_seedN/       outcome, video on time (seconds), latency/{round_trip_ms,infer_ms} on request

An evaluation records no poses, so there are none. Episodes are written one by one: memory is that of one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.envs.base import ACTION_NAMES
from drifting_vla_jax.report.dataset import images as frames
from drifting_vla_jax.report.dataset import reader as demonstrations
from drifting_vla_jax.report.dataset.reader import Demonstration
from drifting_vla_jax.rollout import episode_log

FLAGS = flags.FLAGS
EPISODES = 3
HAND, TARGET = (0, 114, 178), (213, 94, 0)  # Okabe and Ito's blue and vermilion, as on the pages


def _rerun() -> Any:
    """The rerun module; imported here, because only this command needs it.

    Raises:
      ModuleNotFoundError: it is not installed; says what to do.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("rerun-sdk is not installed: pip install 'drifting-vla-jax[rerun]'") from error
    return rerun


def export_data(path: Path, out: Path, tasks: Sequence[str] = (), episodes: int = EPISODES, quiet: bool = True) -> int:
    """Writes ``episodes`` of each task, evenly spread (0: all), and returns how many there are.

    Raises:
      FileNotFoundError, ValueError: see ``demonstrations``.
      ModuleNotFoundError: no rerun-sdk.
    """
    data = demonstrations.open_data(path)
    groups = demonstrations.by_task(demonstrations.read_demonstrations(data, tasks=tasks)).values()
    chosen = [members[i] for members in groups for i in frames.evenly(len(members), episodes or len(members))]
    splits = {name: data.split(name) for name in dict.fromkeys(e.split for e in chosen)}
    about = data.metadata

    def trees(stream) -> Iterator[Any]:
        for episode in tqdm(chosen, unit=" episodes", leave=False, disable=quiet, mininterval=1):
            records = [splits[episode.split].records[episode.first + t]["images"] for t in range(len(episode))]
            images = {camera: [record[camera] for record in records] for camera in data.cameras}
            yield _log_demonstration(stream, episode, images, about["state_names"], about["control_hz"])

    _write(out, f"data set {path}", trees)
    return len(chosen)


def export_evaluation(folder: Path, out: Path, tasks: Sequence[str] = (), episodes: int = EPISODES) -> int:
    """Writes ``episodes`` of each task, filmed ones first (0: all), and returns how many there are.

    Raises:
      FileNotFoundError: no evaluation there.
      ValueError: a task that it does not have.
      ModuleNotFoundError: no rerun-sdk.
    """
    lines = list(episode_log.read_all_episodes(folder).values()) if folder.is_dir() else []
    if not lines:
        raise FileNotFoundError(f"{folder} is no evaluation: there is no episodes.jsonl; it is a folder of RUN/eval/")
    known = list(dict.fromkeys(line["task"] for line in lines))
    for task in tasks:
        if task not in known:
            near = demonstrations.nearest(task, known)
            raise ValueError(f"{folder} has no task {task!r}; nearest is {near!r}, it has {', '.join(known)}")
    chosen = []
    for task in tasks or known:
        members = sorted((line for line in lines if line["task"] == task), key=lambda line: not line.get("video"))
        chosen += members[: episodes or None]
    results = folder / "results.json"
    summary = read_dict(results, {}) if results.exists() else {}

    def trees(stream) -> Iterator[Any]:
        for line in chosen:
            yield _log_rollout(stream, line, folder)

    _write(out, f"evaluation {folder}", trees, summary)
    return len(chosen)


def _write(out: Path, about: str, trees, summary: dict | None = None) -> None:
    """Writes a recording with one tab per tree; the file has its name only once it is complete."""
    rr = _rerun()
    import rerun.blueprint as rrb

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    stream = rr.RecordingStream("drifting_vla")
    try:
        stream.save(partial)
        stream.send_recording_name(about)
        stream.log("about", rr.TextDocument(about), static=True)
        if summary:
            stream.log("results", rr.TextDocument(json.dumps(summary, indent=1)), static=True)
        tabs = list(trees(stream))
        stream.send_blueprint(rrb.Blueprint(rrb.Tabs(*tabs), collapse_panels=True))
        stream.disconnect()
        partial.replace(out)
    finally:
        stream.disconnect()
        partial.unlink(missing_ok=True)


def _log_demonstration(stream, episode: Demonstration, images: dict, state_names: Sequence[str], hz: float) -> Any:
    """Sends an episode's columns; returns its tab."""
    rr = _rerun()
    import rerun.blueprint as rrb

    root = _root(f"{episode.split}_{episode.index:04d}_{episode.task}")
    steps = np.arange(len(episode))
    index = [rr.TimeColumn("step", sequence=steps), rr.TimeColumn("time", duration=steps / hz)]
    facts = f"{episode.task}, variation {episode.variation}, seed {episode.seed}, {len(episode)} steps at {hz:g} Hz"
    text = "\n".join([*episode.instructions, "", facts])
    stream.log(f"{root}/instruction", rr.TextDocument(text, media_type="text/plain"), static=True)
    for camera, files in images.items():
        media = ["image/png" if file.startswith(b"\x89PNG") else "image/jpeg" for file in files]
        columns = rr.EncodedImage.columns(blob=files, media_type=media)
        stream.send_columns(f"{root}/cameras/{_part(camera)}", indexes=index, columns=columns)
    for name, positions, colour in (("hand", episode.state[:, :3], HAND), ("target", episode.actions[:, :3], TARGET)):
        rotation = {"quaternion": episode.actions[:, 3:7]} if name == "target" else {}
        columns = rr.Transform3D.columns(translation=positions, **rotation)
        stream.send_columns(f"{root}/world/{name}", indexes=index, columns=columns)
        stream.log(f"{root}/world/{name}", rr.Points3D([[0, 0, 0]], radii=0.008, colors=colour), static=True)
        stream.log(f"{root}/world/{name}_path", rr.LineStrips3D([positions], radii=0.0015, colors=colour), static=True)
    stream.log(f"{root}/world/target", rr.TransformAxes3D(0.06), static=True)
    for kind, names, values in (("action", ACTION_NAMES, episode.actions), ("state", state_names, episode.state)):
        for name, column in zip(names, values.T):
            scalars = rr.Scalars.columns(scalars=column.astype(np.float64))
            stream.send_columns(f"{root}/{kind}/{_part(name)}", indexes=index, columns=scalars)
    views = [rrb.Spatial2DView(origin=f"{root}/cameras/{_part(camera)}", name=camera) for camera in images]
    return rrb.Vertical(
        rrb.Horizontal(rrb.Spatial3DView(origin=f"{root}/world", name="world"), rrb.Grid(*views)),
        rrb.Horizontal(
            rrb.TimeSeriesView(origin=f"{root}/action", name="action"),
            rrb.TimeSeriesView(origin=f"{root}/state", name="state"),
            rrb.TextDocumentView(origin=f"{root}/instruction", name="instruction"),
        ),
        name=root,
    )


def _log_rollout(stream, line: dict, folder: Path) -> Any:
    """Sends what one line of episodes.jsonl holds, and its video; returns its tab."""
    rr = _rerun()
    import rerun.blueprint as rrb

    root = _root(f"{line['task']}_v{line['variation']}_seed{line['seed']}")
    told = {key: line[key] for key in line if key not in ("round_trip_ms", "infer_ms", "delay_steps")}
    text = "\n".join(f"{key}: {value}" for key, value in told.items() if value not in ("", {}, None))
    stream.log(f"{root}/outcome", rr.TextDocument(text, media_type="text/plain"), static=True)
    for name in ("round_trip_ms", "infer_ms", "delay_steps"):
        if line.get(name):
            index = [rr.TimeColumn("request", sequence=np.arange(len(line[name])))]
            scalars = rr.Scalars.columns(scalars=np.asarray(line[name], np.float64))
            stream.send_columns(f"{root}/latency/{name}", indexes=index, columns=scalars)
    video = folder / line["video"] if line.get("video") else None
    views = [
        rrb.TimeSeriesView(origin=f"{root}/latency", name="latency"),
        rrb.TextDocumentView(origin=f"{root}/outcome"),
    ]
    if video and video.is_file():
        asset = rr.AssetVideo(path=video)
        stamps = asset.read_frame_timestamps_nanos()
        stream.log(f"{root}/video", asset, static=True)
        index = [rr.TimeColumn("time", duration=1e-9 * stamps)]
        stream.send_columns(f"{root}/video", indexes=index, columns=rr.VideoFrameReference.columns_nanos(stamps))
        views.insert(0, rrb.Spatial2DView(origin=f"{root}/video", name="video"))
    return rrb.Horizontal(*views, name=root)


def _root(name: str) -> str:
    return f"/{_part(name)}"


def _part(name: str) -> str:
    return _rerun().escape_entity_path_part(name)


def main(_) -> None:
    start = time.perf_counter()
    if bool(FLAGS.data) == bool(FLAGS.evaluation):
        raise ValueError("expected either --data=DIR, a data set, or --evaluation=RUN/eval/ID")
    out = Path(FLAGS.out)
    if FLAGS.data:
        count = export_data(Path(FLAGS.data), out, FLAGS.tasks, FLAGS.episodes, quiet=False)
    else:
        count = export_evaluation(Path(FLAGS.evaluation), out, FLAGS.tasks, FLAGS.episodes)
    size, seconds = out.stat().st_size / 2**20, time.perf_counter() - start
    print(f"rerun    {out}  ({count} episodes, {size:.1f} MB; {seconds:.1f} s); open it with: rerun {out}")


if __name__ == "__main__":
    cli.define_path("data", None, "directory of a data set")
    cli.define_path("evaluation", None, "folder of an evaluation, RUN/eval/ID")
    cli.define_path("out", None, "the recording to write, FILE.rrd", writes="file", required=True)
    flags.DEFINE_list("tasks", [], "tasks, comma-separated (default: all)")
    flags.DEFINE_integer("episodes", EPISODES, "episodes of each task; 0 is all", *ranges.SEVERAL.bounds)
    cli.run(main)
