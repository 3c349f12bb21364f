"""Videos that any browser plays: H.264, yuv420p, the scene with the chunk that is being executed drawn into it, and below
it the instruction and how the episode stands.

A video has its name only once it is complete: a process killed half-way leaves none (but a hidden partial file).
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drifting_vla_jax.core.text import shown
from drifting_vla_jax.envs.base import Env

MAX_FPS = 20.0  # a faster simulation is filmed every n-th control step


class VideoWriter:
    """Frames into an H.264 .mp4. The file has its name only after ``close``."""

    def __init__(self, path: Path, fps: float):
        """``fps``: frames per second of playback."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial.mp4")
        self._fps = fps
        self._encoder = None

    def add(self, frame: np.ndarray) -> None:
        """Appends uint8 [H, W, 3]; all frames of a video have one size, H and W even."""
        if self._encoder is None:
            height, width, _ = frame.shape
            if height % 2 or width % 2:
                raise ValueError(f"a video frame is {width} x {height}; yuv420p needs even sizes")
            self._encoder = imageio_ffmpeg.write_frames(
                str(self._partial),
                (width, height),
                fps=self._fps,
                codec="libx264",
                pix_fmt_out="yuv420p",
                macro_block_size=2,
                quality=None,
                ffmpeg_log_level="error",
                output_params=["-crf", "20", "-preset", "veryfast", "-threads", "1", "-movflags", "+faststart"],
            )
            self._encoder.send(None)
        self._encoder.send(np.ascontiguousarray(frame))

    def close(self) -> None:
        """Finishes the file; without frames there is none."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None
            self._partial.replace(self._path)

    def discard(self) -> None:
        """Ends without leaving a file; after ``close`` it does nothing."""
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None
            self._partial.unlink(missing_ok=True)


class Film:
    """One episode in real time: ``with film: film.shoot(...) ...; film.finish(...)``; an error discards the video."""

    def __init__(self, env: Env, path: Path, *, camera: str, size: int):
        """``camera`` is any name the simulator knows, ``size`` the picture's height and width in pixels."""
        self._env, self._camera, self._size = env, camera, size
        self._every = max(1, round(env.control_hz / MAX_FPS))  # control steps per frame
        self._fps = env.control_hz / self._every
        self._writer = VideoWriter(path, self._fps)
        self._picture: np.ndarray | None = None
        self._steps = 0
        self._plan, self._planned_at = np.empty((0, 3)), 0

    def plan(self, chunk: np.ndarray) -> None:
        """The chunk [h, 8] that just came: its positions are drawn into the pictures from now on."""
        self._plan, self._planned_at = chunk[:, :3], self._steps

    def shoot(self, title: str, detail: str, state: str, mood: str) -> None:
        """Called at every control step; takes a picture of every n-th. The texts are those of ``caption``."""
        if self._steps % self._every == 0:
            self._picture = self._env.render(self._camera, self._size)
            if len(self._plan):
                where = self._size * self._env.project(self._camera, self._plan)
                self._picture = draw_plan(self._picture, where, self._steps - self._planned_at)
            self._writer.add(caption(self._picture, title=title, detail=detail, state=state, mood=mood))
        self._steps += 1

    def finish(self, title: str, detail: str, state: str, mood: str, *, fresh: bool) -> None:
        """The last picture, left standing for a second; not a ``fresh`` one if the simulator has just failed."""
        if fresh or self._picture is None:
            self._picture = self._env.render(self._camera, self._size)
        frame = caption(self._picture, title=title, detail=detail, state=state, mood=mood)
        for _ in range(max(1, round(self._fps))):
            self._writer.add(frame)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_) -> None:
        if error_type is None:
            self._writer.close()
        else:
            self._writer.discard()


_AHEAD, _DONE, _EDGE = (255, 196, 61), (150, 150, 150), (0, 0, 0)


def draw_plan(picture: np.ndarray, pixels: np.ndarray, done: int) -> np.ndarray:
    """A chunk's path over a picture: a line with a dot per action, those already carried out in grey.

    Args:
      picture: uint8 [H, W, 3].
      pixels: [h, 2] right, down; NaN where an action cannot be seen.
      done: how many actions have been carried out.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    seen = [(i, tuple(pixel)) for i, pixel in enumerate(pixels.tolist()) if np.all(np.isfinite(pixel))]
    radius = max(1.5, picture.shape[0] / 160)
    for (i, a), (_, b) in itertools.pairwise(seen):
        draw.line([a, b], fill=_DONE if i + 1 < done else _AHEAD, width=max(1, round(radius)))
    for i, (x, y) in seen:
        corners = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(corners, fill=_DONE if i < done else _AHEAD, outline=_EDGE)
    return np.asarray(image)


_STRIP = 52  # height of the caption, pixels
_BACKGROUND, _TEXT, _DIM = (17, 19, 24), (236, 238, 242), (147, 153, 166)
_COLOURS = {"good": (84, 201, 133), "bad": (240, 113, 103), "open": (222, 184, 92)}


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def caption(picture: np.ndarray, *, title: str, detail: str, state: str, mood: str = "open") -> np.ndarray:
    """A picture with a strip of text below it.

    Args:
      picture: uint8 [H, W, 3].
      title: first line, cut with an ellipsis where it does not fit.
      detail: second line, left.
      state: second line, right, coloured by ``mood``: "good", "bad" or "open".

    Returns:
      uint8 [H + strip, W, 3], both sizes even.
    """
    height, width, _ = picture.shape
    frame = Image.new("RGB", (width + width % 2, height + _STRIP + height % 2), _BACKGROUND)
    frame.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(frame)
    large, small = _font(16), _font(13)
    title, detail, state = shown(title), shown(detail), shown(state)  # one line each
    draw.text((10, height + 6), _fit(title, large, width - 20), font=large, fill=_TEXT)
    right = draw.textlength(state, font=small)
    draw.text((width - 10 - right, height + 29), state, font=small, fill=_COLOURS[mood])
    draw.text((10, height + 29), _fit(detail, small, width - 30 - right), font=small, fill=_DIM)
    return np.asarray(frame)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
