"""Videos of episodes on the page: inside it, so that it can be sent around, until a budget is spent; linked from then on."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from drifting_vla_jax.report.run import Run


def choose_films(runs: Sequence[Run], page: Path, budget: int) -> list[dict[str, Any]]:
    """Every filmed episode of the newest evaluations, task by task, the runs in turn.

    Args:
      page: the HTML file, from which links are relative.
      budget: bytes of the page that videos may take; base64 makes 4 of 3.

    Returns:
      [{"run": number, "episode": its line, "source": data URI or link, "embedded": bool}]; a video that is gone has source "".
    """
    tasks = dict.fromkeys(name for run in runs if run.newest for name in run.newest.tasks)
    ordered = []
    for task in tasks:
        ordered += [
            film
            for turn in zip_longest(*(_filmed(run, task, i) for i, run in enumerate(runs)))
            for film in turn
            if film
        ]
    films, spent = [], 0
    for number, path, episode in ordered:
        source, embedded = "", False
        if path.is_file():
            size = 4 * ((path.stat().st_size + 2) // 3)
            embedded = spent + size <= budget
            spent += size if embedded else 0
            source = _data_uri(path) if embedded else Path(os.path.relpath(path, page.parent)).as_posix()
        films.append({"run": number, "episode": episode, "source": source, "embedded": embedded})
    return films


def _filmed(run: Run, task: str, number: int) -> list[tuple[int, Path, dict]]:
    if not run.newest:
        return []
    episodes = [e for e in run.newest.episodes if e["task"] == task and e.get("video")]
    return [(number, run.newest.folder / episode["video"], episode) for episode in episodes]


def _data_uri(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
