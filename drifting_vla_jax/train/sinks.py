"""Where a step's record goes: metrics.jsonl at once; WandB and TensorBoard whole, with its figures and videos, in order.

    loop --commit(record, drawing)--> Journal --now--------------------------> metrics.jsonl
                                         '----once its figures are drawn-----> WandB, TensorBoard

A sink that fails says so once and never stops training. Of several processes only the first one has sinks.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from drifting_vla_jax.config import to_json

log = logging.getLogger(__name__)

_WAIT_SECONDS = 300.0  # at the end, for figures that are still being drawn
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Record:
    """All that is known of one step: numbers, pictures (PNG) and videos (mp4), by key."""

    step: int
    scalars: Mapping[str, float]
    images: Mapping[str, Path] = field(default_factory=dict)
    videos: Mapping[str, Path] = field(default_factory=dict)


class Drawing(Protocol):
    """Figures of a step that another process draws."""

    def done(self) -> bool: ...

    def files(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and videos; called once, after ``done``."""
        ...

    def stop(self) -> None: ...


class Sink(Protocol):
    """Somewhere that records go."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class JsonlSink:
    """DIR/metrics.jsonl, one line per step; on a resume the lines after the checkpoint go, as they come again."""

    def __init__(self, workdir: Path, step: int):
        path = Path(workdir) / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
            path.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a")

    def write(self, record: Record) -> None:
        if record.scalars:
            numbers = {key: round(float(value), 8) for key, value in record.scalars.items()}
            self._file.write(json.dumps({"step": record.step} | numbers) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:  # the line a killed process was writing
        return math.inf


class WandbSink:
    """One WandB run per workdir: online with an API key, else offline (``wandb sync`` later). One commit per step.

    What an evaluation in simulation found (sim/*) is drawn over the step that it evaluated, sim/step.
    """

    def __init__(self, workdir: Path, config: ConfigDict, about: Mapping[str, Any]):
        import wandb

        self._wandb = wandb
        run_file = Path(workdir) / "wandb_run_id"
        if not run_file.exists():
            run_file.write_text(uuid.uuid4().hex[:8])
        self._run = wandb.init(
            project=config.train.wandb_project,
            name=config.name,
            id=run_file.read_text().strip(),
            resume="allow",
            dir=str(workdir),
            mode="online" if os.environ.get("WANDB_API_KEY") else "offline",
            config=to_json(config) | {"about": dict(about)},
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("sim/*", step_metric="sim/step")

    def write(self, record: Record) -> None:
        media = {key: self._wandb.Image(str(path)) for key, path in record.images.items()}
        media |= {key: self._wandb.Video(str(path), format="mp4") for key, path in record.videos.items()}
        self._run.log({**record.scalars, **media}, step=record.step)

    def close(self) -> None:
        self._run.finish()


class TensorBoardSink:
    """DIR/tensorboard: scalars, pictures, the configuration; of videos, which it cannot play, the path."""

    def __init__(self, workdir: Path, config: ConfigDict, about: Mapping[str, Any]):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), flush_secs=10)
        text = json.dumps({"config": to_json(config), "about": dict(about)}, indent=2)
        self._writer.add_text("config", f"```\n{text}\n```")

    def write(self, record: Record) -> None:
        for key, value in record.scalars.items():
            self._writer.add_scalar(key, float(value), record.step)
        for key, path in record.images.items():
            picture = np.asarray(Image.open(path).convert("RGB"))
            self._writer.add_image(key, picture, record.step, dataformats="HWC")
        for key, path in record.videos.items():
            self._writer.add_text(key, str(path), record.step)

    def close(self) -> None:
        self._writer.close()


class Journal:
    """All sinks as one. Nothing here raises: a failing sink is named once and dropped."""

    def __init__(self, at_once: Sequence[Sink], whole: Sequence[Sink]):
        """``at_once`` get the numbers of a record when they are known, ``whole`` get all of it when that is complete."""
        self._at_once, self._whole = list(at_once), list(whole)
        self._waiting: deque[tuple[Record, Drawing | None]] = deque()

    def commit(self, record: Record, drawing: Drawing | None = None) -> None:
        """Everything of one step, once per step; what is being drawn joins it when it is there."""
        _each(self._at_once, lambda sink: sink.write(record))
        self._waiting.append((record, drawing))
        self._hand_on()

    def close(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Waits for figures that are being drawn, five minutes at most, and ends."""
        until = time.monotonic() + _WAIT_SECONDS
        self._hand_on()
        if self._waiting:
            log.info("waiting for the last figures (Ctrl-C leaves them)")
        while self._waiting and time.monotonic() < until and not interrupted():
            self._hand_on()
            if self._waiting:
                time.sleep(_POLL_SECONDS)
        for record, drawing in self._waiting:
            if drawing:
                drawing.stop()
            _each(self._whole, lambda sink, record=record: sink.write(record))
        self._waiting.clear()
        for sinks in (self._at_once, self._whole):
            _each(sinks, lambda sink: sink.close())
            sinks.clear()

    def _hand_on(self) -> None:
        """Records go to the sinks in the order of their steps, so one that is not complete holds up those after it."""
        while self._waiting:
            record, drawing = self._waiting[0]
            if drawing:
                if not drawing.done():
                    return
                images, videos = drawing.files()
                videos = {**record.videos, **videos}
                record = dataclasses.replace(record, images={**record.images, **images}, videos=videos)
            self._waiting.popleft()
            _each(self._whole, lambda sink, record=record: sink.write(record))


def _each(sinks: list[Sink], do: Callable[[Sink], None]) -> None:
    for sink in list(sinks):
        try:
            do(sink)
        except Exception as error:  # a process boundary: third parties' network, disk and services
            log.warning("%s failed and is off from now on: %s", type(sink).__name__, error)
            sinks.remove(sink)


def make_journal(workdir: Path, config: ConfigDict, step: int, about: Mapping[str, Any]) -> Journal:
    """The sinks of a run that starts or goes on at ``step``; ``about``: code, packages, devices, for who reads it."""
    if jax.process_index() > 0:
        return Journal([], [])
    wanted: list[tuple[str, Callable[..., Sink]]] = []
    if config.train.wandb == "auto":
        wanted.append(("wandb", WandbSink))
    if config.train.tensorboard:
        wanted.append(("tensorboardX", TensorBoardSink))
    whole = []
    for package, sink in wanted:
        try:
            whole.append(sink(workdir, config, about))
        except ImportError:
            log.warning("%s is not installed; metrics go to %s/metrics.jsonl all the same", package, workdir)
        except Exception as error:  # a process boundary: account, network, service
            log.warning("%s could not start (%s); metrics go to %s/metrics.jsonl all the same", package, error, workdir)
    return Journal([JsonlSink(workdir, step)], whole)
