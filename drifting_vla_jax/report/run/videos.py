"""Videos on the page: inside it, so that it can be sent around, until a budget is spent; linked from then on."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from drifting_vla_jax.report.run.images import drawn
from drifting_vla_jax.report.run.reader import Run


def choose_films(runs: Sequence[Run], page: Path, budget: int) -> list[dict[str, Any]]:
    """The newest held-out trajectory of each run, then every filmed episode of the newest evaluations, task by task.

    Args:
      page: the HTML file, from which links are relative.
      budget: bytes of the page that videos may take; base64 makes 4 of 3.

    Returns:
      [{"run": number, "source": data URI or link, "embedded": bool, and "step" of a trajectory or "episode", its line}];
      a video that is gone has source "".
    """
    return embed([*_trajectories(runs), *_episodes(runs)], page, budget)


def embed(chosen: Sequence[tuple[int, Path, dict]], page: Path, budget: int) -> list[dict[str, Any]]:
    """What ``choose_films`` returns, of (number, the video, what else is to be said of it)."""
    films, spent = [], 0
    for number, path, about in chosen:
        source, embedded = "", False
        if path.is_file():
            size = 4 * ((path.stat().st_size + 2) // 3)
            embedded = spent + size <= budget
            spent += size if embedded else 0
            source = _data_uri(path) if embedded else Path(os.path.relpath(path, page.parent)).as_posix()
        films.append({"run": number, "source": source, "embedded": embedded} | about)
    return films


def _trajectories(runs: Sequence[Run]) -> Iterator[tuple[int, Path, dict]]:
    for number, run in enumerate(runs):
        steps = drawn(run, "B3_trajectory_video", "mp4")
        if steps:
            yield number, steps[max(steps)], {"step": max(steps)}


def _episodes(runs: Sequence[Run]) -> Iterator[tuple[int, Path, dict]]:
    tasks = dict.fromkeys(name for run in runs if run.newest for name in run.newest.tasks)
    for task in tasks:
        for turn in zip_longest(*(_filmed(run, task, i) for i, run in enumerate(runs))):
            yield from (film for film in turn if film)


def _filmed(run: Run, task: str, number: int) -> list[tuple[int, Path, dict]]:
    if not run.newest:
        return []
    episodes = [e for e in run.newest.episodes if e["task"] == task and e.get("video")]
    return [(number, run.newest.folder / episode["video"], {"episode": episode}) for episode in episodes]


def _data_uri(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
