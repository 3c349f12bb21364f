"""Images of episodes: what the checks see of them, a strip of stills, a short film.

Looking at every image of a large set takes hours, so ``look`` reads at most LOOK_STEPS time steps: whole episodes, evenly
spread over the set. Of those every image FILE is compared with the next one; DECODED are LOOK_DECODED per episode and
camera and whichever file is much smaller than the others (black images are). One time step is in memory at a time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from drifting_vla_jax.core.episode import decode_image
from drifting_vla_jax.data.dataset import DataSet, Split
from drifting_vla_jax.report.dataset.reader import Demonstration, Key
from drifting_vla_jax.rollout.video import MAX_FPS, VideoWriter

LOOK_STEPS = 20_000
LOOK_DECODED = 4
TILE = 144  # pixels of a still; larger images are made smaller
STILLS = 8
FILM = 192  # pixels of a film's views


@dataclass(frozen=True)
class Seen:
    """One camera of one episode.

    Attributes:
      digests: of every step's image file.
      light: {step: (mean, standard deviation)} of the decoded ones, 0 .. 255.
      damaged: steps whose image cannot be decoded.
      misplaced: steps whose record is not the one that its row in the arrays says.
    """

    digests: tuple[bytes, ...]
    light: dict[int, tuple[float, float]]
    damaged: tuple[int, ...]
    misplaced: tuple[int, ...]


def evenly(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of range(count), evenly spread, first and last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def to_look_at(episodes: Sequence[Demonstration], steps: int = LOOK_STEPS) -> list[Demonstration]:
    """Episodes whose images are looked at: all of them, or evenly spread ones of ``steps`` time steps together."""
    total = sum(map(len, episodes))
    if total <= steps:
        return list(episodes)
    return [episodes[i] for i in evenly(len(episodes), max(1, len(episodes) * steps // total))]


def look(
    data: DataSet, episodes: Sequence[Demonstration], progress: Callable[[Sequence], Sequence] = lambda x: x
) -> dict[Key, dict[str, Seen]]:
    """{(split, number): {camera: Seen}} of the given episodes; ``progress`` wraps the sequence, as tqdm does."""
    splits = {name: data.split(name) for name in dict.fromkeys(e.split for e in episodes)}
    return {e.key: _look_at(splits[e.split], e) for e in progress(episodes)}


def _look_at(split: Split, episode: Demonstration) -> dict[str, Seen]:
    digests: dict[str, list[bytes]] = {camera: [] for camera in split.cameras}
    sizes: dict[str, list[int]] = {camera: [] for camera in split.cameras}
    misplaced = []
    for step in range(len(episode)):
        record = split.records[episode.first + step]
        if not _is_row(record, episode, step):
            misplaced.append(step)
        for camera in split.cameras:
            file = record["images"][camera]
            digests[camera].append(hashlib.blake2b(file, digest_size=16).digest())
            sizes[camera].append(len(file))
    seen = {}
    for camera in split.cameras:
        small = np.flatnonzero(np.array(sizes[camera]) < np.median(sizes[camera]) / 4).tolist()
        light, damaged = {}, []
        for step in sorted({*evenly(len(episode), LOOK_DECODED), *small}):
            try:
                image = decode_image(split.records[episode.first + step]["images"][camera])
            except ValueError:
                damaged.append(step)
                continue
            light[step] = float(image.mean()), float(image.std())
        seen[camera] = Seen(tuple(digests[camera]), light, tuple(damaged), tuple(misplaced))
    return seen


def _is_row(record: dict, episode: Demonstration, step: int) -> bool:
    same = (record["episode"], record["step"]) == (episode.index, step)
    numbers = ((record["state"], episode.state[step]), (record["action"], episode.actions[step]))
    return same and all(np.array_equal(a, b, equal_nan=True) for a, b in numbers)


def strip(split: Split, episode: Demonstration) -> tuple[list[int], str]:
    """(steps, one WebP as a data URI): a row per camera of STILLS evenly spread images."""
    steps = evenly(len(episode), STILLS)
    views = [_views(split, episode, step) for step in steps]
    size = min(TILE, views[0][0].shape[0])
    sheet = np.concatenate([np.concatenate([_resized(v, size) for v in column]) for column in views], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", quality=82, method=4)
    return steps, "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def film(split: Split, episode: Demonstration, control_hz: float) -> str:
    """The episode in real time, all cameras in a square, as a data URI of an .mp4."""
    every = max(1, round(control_hz / MAX_FPS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = VideoWriter(path, max(1.0, control_hz / every))
        try:
            for step in range(0, len(episode), every):
                writer.add(_tiled([_resized(v, FILM) for v in _views(split, episode, step)]))
        except BaseException:
            writer.discard()
            raise
        writer.close()
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()


def _views(split: Split, episode: Demonstration, step: int) -> list[np.ndarray]:
    """Every camera's image of a step; grey where one cannot be decoded, which is a finding of its own."""
    images, files = [], split.records[episode.first + step]["images"]
    for camera in split.cameras:
        try:
            images.append(decode_image(files[camera]))
        except ValueError:
            images.append(np.full((FILM, FILM, 3), 128, np.uint8))
    return images


def _tiled(images: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size in rows of as many as there are rows, or one more; black where there is none."""
    columns = math.ceil(math.sqrt(len(images)))
    filled = images + [np.zeros_like(images[0])] * (-len(images) % columns)
    rows = [np.concatenate(filled[i : i + columns], axis=1) for i in range(0, len(filled), columns)]
    return np.concatenate(rows, axis=0)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    if image.shape[:2] == (size, size):
        return image
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if size < len(image) else cv2.INTER_NEAREST)
