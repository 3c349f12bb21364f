"""Pictures into and out of video files, through PyAV (the libraries of FFmpeg). Extra: [lerobot].

A picture is found by its time, as LeRobot does it: picture k of an episode that begins at ``start`` seconds of its file is
the one shown at start + k / fps.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from drifting_vla_jax.data.sources.recorded.base import RecordingError

NEAR = 0.25  # of the time between two pictures: how far one may be from where it should be


def library(name: str) -> ModuleType:
    """A package of the extra.

    Raises:
      ModuleNotFoundError: it is not installed; has the pip line.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; run `pip install 'drifting-vla-jax[lerobot]'`") from error


@dataclass(frozen=True)
class Header:
    """What a video file says before anything is decoded: pictures (0: it does not say), per second, height, width, and
    FFmpeg's name of how it stores a pixel."""

    count: int
    fps: float
    height: int
    width: int
    pixels: str = ""


def header(path: Path) -> Header:
    """Reads a file's header.

    Raises:
      RecordingError: it is missing, damaged or has no video.
    """
    av = library("av")
    if not path.is_file():
        raise RecordingError(f"{path} is missing")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise RecordingError(f"{path} has no video in it")
            stream = container.streams.video[0]
            return Header(
                stream.frames, float(stream.average_rate or 0), stream.height, stream.width, stream.pix_fmt or ""
            )
    except av.FFmpegError as error:
        raise RecordingError(f"{path} is no video that can be read: {error.strerror}") from error


def pictures(path: Path, fps: float, start: float, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures ``rows`` (ascending) of an episode, uint8 [height, width, 3], each decoded once.

    Raises:
      RecordingError: the file is damaged, or has no picture at such a time.
    """
    av = library("av")
    wanted = iter(rows.tolist())
    row = next(wanted, None)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if start:
                container.seek(
                    int((start - NEAR / fps) / stream.time_base), stream=stream
                )  # to a key picture before it
            for frame in container.decode(stream):
                if row is None:
                    return
                if frame.time is None:
                    raise RecordingError(f"{path} has a picture without a time")
                number = (frame.time - start) * fps
                if number > row + NEAR:
                    break
                if number >= row - NEAR:
                    yield frame.to_ndarray(format="rgb24")
                    row = next(wanted, None)
    except (av.FFmpegError, OverflowError) as error:  # the second: a time that no file reaches
        raise RecordingError(f"{path} cannot be decoded: {error}") from error
    if row is not None:
        raise RecordingError(
            f"{path} has no picture at {start + row / fps:.3f} s (row {row} of an episode at {fps:g} fps)"
        )


class Writer:
    """Pictures into an H.264 file (yuv420p) of ``fps`` per second: ``add`` each, then ``close``.

    Attributes:
      count, size: pictures and bytes so far.
    """

    def __init__(self, path: Path, fps: int, side: int, crf: int):
        """``side``: pixels, even; ``crf``: 0 best .. 51 worst."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = library("av").open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=fps)
        self._stream.width = self._stream.height = side
        self._stream.pix_fmt = "yuv420p"
        # Every second picture stands for itself and none waits for a later one: readers jump about in these files.
        self._stream.options = {"crf": str(crf), "g": "2", "bf": "0"}
        self.count = self.size = 0

    def add(self, image: np.ndarray) -> None:
        self._mux(library("av").VideoFrame.from_ndarray(image, format="rgb24"))
        self.count += 1

    def close(self) -> None:
        self._mux(None)
        self._container.close()

    def _mux(self, frame: object) -> None:
        for packet in self._stream.encode(frame):
            self.size += packet.size
            self._container.mux(packet)
