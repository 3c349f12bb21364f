"""Where a step's record goes: metrics.jsonl at once; WandB and TensorBoard whole, with its figures and videos, in order.

    loop --commit(record, drawing)--> Journal --now--------------------------> metrics.jsonl
                                         '----once its figures are drawn-----> WandB, TensorBoard

A sink that fails says so once and never stops training. Of several processes only the first one has sinks.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from drifting_vla_jax.config.io import to_json
from drifting_vla_jax.core.files import set_aside, write_atomically

log = logging.getLogger(__name__)

_WAIT_SECONDS = 300.0  # at the end, for figures that are still being drawn
_POLL_SECONDS = 0.1
_PROBE_SECONDS = 5.0  # that WandB's server may take to answer at all
_WANDB_SECONDS = 20.0  # to begin a run there, and to take what is left at its end


@dataclass(frozen=True)
class LogEntry:
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


class MetricWriter(Protocol):
    """Somewhere that records go."""

    def write(self, record: LogEntry) -> None: ...

    def close(self) -> None: ...


class JsonlWriter:
    """DIR/metrics.jsonl, one line per step; on a resume the lines after the checkpoint go, as they come again."""

    def __init__(self, workdir: Path, step: int):
        path = Path(workdir) / "metrics.jsonl"
        if os.path.lexists(path):
            try:
                kept, damaged = _lines_until(step, path.read_bytes())
            except OSError as error:  # a folder, another's file
                kept, damaged = b"", str(error)
            if damaged:
                set_aside(path, damaged)
            write_atomically(path, kept)
        self._file = path.open("a")

    def write(self, record: LogEntry) -> None:
        if record.scalars:
            numbers = {key: round(float(value), 8) for key, value in record.scalars.items()}
            self._file.write(json.dumps({"step": record.step} | numbers) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def _lines_until(step: int, content: bytes) -> tuple[bytes, str]:
    """The records of steps up to this one, and what is wrong with other lines; the last may be what a killed process was
    writing."""
    kept, odd = b"", []
    *lines, rest = content.split(b"\n")
    for number, line in enumerate([*lines, rest], 1):
        try:
            record = json.loads(line)
            at = record["step"] if isinstance(record, dict) else None
        except (ValueError, KeyError, RecursionError):
            at = None
        if isinstance(at, (int, float)) and not isinstance(at, bool):
            kept += line + b"\n" if at <= step else b""
        elif line.strip() and number <= len(lines):
            odd.append(number)
    return kept, f"line {odd[0]} is no record of a step" if odd else ""


class WandbWriter:
    """One WandB run per workdir: online with an API key, else offline (``wandb sync`` later). One commit per step.

    What WANDB_MODE, WANDB_PROJECT and their like say is obeyed: they stand above the configuration. A server that does not
    answer costs seconds: the run is then kept in DIR/wandb.
    What an evaluation in simulation found (sim/*) is drawn over the step that it evaluated, sim/step.
    """

    def __init__(self, workdir: Path, config: ConfigDict, about: Mapping[str, Any]):
        import wandb

        self._wandb = wandb
        own = {
            "WANDB_PROJECT": ("project", config.train.wandb_project),
            "WANDB_NAME": ("name", config.name),
            "WANDB_DIR": ("dir", str(workdir)),
            "WANDB_RESUME": ("resume", "allow"),
        }
        options: dict[str, Any] = {name: value for key, (name, value) in own.items() if not os.environ.get(key)}
        if not os.environ.get("WANDB_RUN_ID"):
            options["id"] = _run_id(Path(workdir) / "wandb_run_id")
        settings = {name: value for name, value in (("silent", True), ("console", "off"))
                    if not os.environ.get(f"WANDB_{name.upper()}")}  # fmt: skip
        options["config"] = to_json(config) | {"about": dict(about)}
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        if mode == "online" and (silence := _silence()):
            log.warning("WandB does not answer (%s); the run is kept in %s/wandb, for `wandb sync`", silence, workdir)
            mode = "offline"
        try:
            self._run = wandb.init(
                mode=mode, settings=wandb.Settings(**settings, init_timeout=_WANDB_SECONDS), **options
            )
        except wandb.Error as error:
            if mode != "online":
                raise
            log.warning("WandB refuses (%s); the run is kept in %s/wandb, for `wandb sync`", error, workdir)
            wandb.teardown(1)  # else the run of this id would count as begun
            self._run = wandb.init(mode="offline", settings=wandb.Settings(**settings), **options)
        self._run.define_metric("sim/*", step_metric="sim/step")

    def write(self, record: LogEntry) -> None:
        media = {key: self._wandb.Image(str(path)) for key, path in record.images.items()}
        media |= {key: self._wandb.Video(str(path), format="mp4") for key, path in record.videos.items()}
        self._run.log({**record.scalars, **media}, step=record.step)

    def close(self) -> None:
        """Sends what is not sent yet; where nobody takes it the run lies in DIR/wandb."""
        ending = threading.Thread(target=self._run.finish, name="wandb", daemon=True)
        ending.start()
        ending.join(_WANDB_SECONDS)
        if ending.is_alive():
            log.warning("WandB has not taken everything within %g s; `wandb sync` sends the rest", _WANDB_SECONDS)
            self._wandb.teardown(1)


def _run_id(path: Path) -> str:
    """The run of this workdir in WandB: that of earlier starts, or a new one."""
    if os.path.lexists(path):
        try:
            found = path.read_text(errors="replace").strip()
            if re.fullmatch(r"[\w-]{1,64}", found, re.ASCII):
                return found
            set_aside(path, f"{found[:40]!r} names no run")
        except OSError as error:
            set_aside(path, error)
    new = uuid.uuid4().hex[:8]
    write_atomically(path, new)
    return new


def _silence() -> str:
    """Why WandB's server cannot be reached; "" if something answers."""
    url = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    try:
        httpx.head(url, timeout=_PROBE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError) as error:
        return f"{url}: {error or type(error).__name__}"
    return ""


class TensorBoardWriter:
    """DIR/tensorboard: scalars, pictures, the configuration; of videos, which it cannot play, the path."""

    def __init__(self, workdir: Path, config: ConfigDict, about: Mapping[str, Any]):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), flush_secs=10)
        text = json.dumps({"config": to_json(config), "about": dict(about)}, indent=2)
        self._writer.add_text("config", f"```\n{text}\n```")

    def write(self, record: LogEntry) -> None:
        for key, value in record.scalars.items():
            self._writer.add_scalar(key, float(value), record.step)
        for key, path in record.images.items():
            picture = np.asarray(Image.open(path).convert("RGB"))
            self._writer.add_image(key, picture, record.step, dataformats="HWC")
        for key, path in record.videos.items():
            self._writer.add_text(key, str(path), record.step)

    def close(self) -> None:
        self._writer.close()


class MultiWriter:
    """All sinks as one. Nothing here raises: a failing sink is named once and dropped."""

    def __init__(self, at_once: Sequence[MetricWriter], whole: Sequence[MetricWriter]):
        """``at_once`` get the numbers of a record when they are known, ``whole`` get all of it when that is complete."""
        self._at_once, self._whole = list(at_once), list(whole)
        self._waiting: deque[tuple[LogEntry, Drawing | None]] = deque()

    def commit(self, record: LogEntry, drawing: Drawing | None = None) -> None:
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


def _each(sinks: list[MetricWriter], do: Callable[[MetricWriter], None]) -> None:
    for sink in list(sinks):
        try:
            do(sink)
        except Exception as error:  # a process boundary: third parties' network, disk and services
            log.warning("%s failed and is off from now on: %s", type(sink).__name__, error)
            sinks.remove(sink)


def make_journal(workdir: Path, config: ConfigDict, step: int, about: Mapping[str, Any]) -> MultiWriter:
    """The sinks of a run that starts or goes on at ``step``; ``about``: code, packages, devices, for who reads it."""
    if jax.process_index() > 0:
        return MultiWriter([], [])
    wanted: list[tuple[str, Callable[..., MetricWriter], int]] = []  # package, sink, how loud its absence is
    if config.train.wandb == "auto" and not _switched_off():
        asked = "WANDB_API_KEY" in os.environ  # "auto" without one is content with what is installed
        wanted.append(("wandb", WandbWriter, logging.WARNING if asked else logging.DEBUG))
    if config.train.tensorboard:
        wanted.append(("tensorboardX", TensorBoardWriter, logging.WARNING))
    whole = []
    for package, sink, level in wanted:
        try:
            whole.append(sink(workdir, config, about))
        except ImportError:
            extra = package.lower().removesuffix("x")
            hint = f"pip install 'drifting-vla-jax[{extra}]'"
            log.log(
                level, "%s is not installed (%s); metrics go to %s/metrics.jsonl all the same", package, hint, workdir
            )
        except Exception as error:  # a process boundary: account, network, service
            log.warning("%s could not start (%s); metrics go to %s/metrics.jsonl all the same", package, error, workdir)
    try:
        at_once: list[MetricWriter] = [JsonlWriter(workdir, step)]
    except OSError as error:
        log.warning("metrics are not written: %s", error)
        at_once = []
    return MultiWriter(at_once, whole)


def _switched_off() -> bool:
    return os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in (
        "true",
        "1",
        "yes",
    )
