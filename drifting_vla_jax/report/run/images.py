"""A run's figures on the page: every figure once, its steps under one slider.

What was drawn as PNG goes in as WebP, a quarter of the bytes; what is converted is kept in DIR/report/pictures, so that a
report that is made again beside the training converts what is new alone.
"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drifting_vla_jax.core.files import file_fingerprint, write_atomically
from drifting_vla_jax.core.registry import PluginError
from drifting_vla_jax.figures.registry import PLOTS, Plot, find_plot
from drifting_vla_jax.report.run.reader import Run

log = logging.getLogger(__name__)

BUDGET = 3 * 2**20  # bytes of the page, over all figures and runs
MOST_STEPS = 12  # of a figure on the page, first and last among them


def choose_pictures(runs: Sequence[Run], budget: int = BUDGET) -> list[dict[str, Any]]:
    """Every figure that any of the runs has drawn, in the gallery's order.

    Where not all steps fit into the budget, those of every figure are thinned out evenly; the last one stays.

    Returns:
      [{"name", "title", "note", "size": (w, h), "runs": [{step: data URI} per run]}]
    """
    plots = PLOTS | _outside(runs)
    found = {name: [drawn(run, name) for run in runs] for name, plot in plots.items() if not plot.film}
    found = {name: steps for name, steps in found.items() if any(steps)}
    for most in range(MOST_STEPS, 0, -1):
        chosen = {name: [_thin(steps, most) for steps in each] for name, each in found.items()}
        images = {path: _webp(path) for each in chosen.values() for steps in each for path in steps.values()}
        if 4 * sum(map(len, images.values())) / 3 <= budget:
            break
    return (
        [
            _about(plots[name])
            | {"runs": [{step: _data_uri(images[path]) for step, path in steps.items()} for steps in each]}
            for name, each in chosen.items()
        ]
        if found
        else []
    )


def _outside(runs: Sequence[Run]) -> dict[str, Plot]:
    """The runs' figures from outside the package by name; what is not found here is said and left out."""
    plots = {}
    for path in dict.fromkeys(path for run in runs for path in run.config.get("train.figures", ())):
        try:
            plot = find_plot(path)
        except (PluginError, ImportError) as reason:
            log.warning("the page is without one figure: %s", reason)
        else:
            plots[plot.name] = plot
    return plots


def _about(plot: Plot) -> dict[str, Any]:
    return {"name": plot.name, "title": plot.title, "note": plot.note, "size": plot.size}


def drawn(run: Run, name: str, suffix: str = "png") -> dict[int, Path]:
    """A figure's files by step, ascending; a half-written one has another name."""
    paths = (run.workdir / "figures" / name).glob(f"*.{suffix}")
    return {int(path.stem): path for path in sorted(paths) if path.stem.isdigit()}


def _thin(steps: dict[int, Path], most: int) -> dict[int, Path]:
    if len(steps) <= most:
        return steps
    keep = np.linspace(len(steps) - 1, 0, most).round().astype(int)
    names = list(steps)
    return {names[i]: steps[names[i]] for i in sorted(keep)}


def _webp(path: Path) -> bytes:
    folder = path.parents[2] / "report" / "pictures" / path.parent.name
    kept = folder / f"{path.stem}-{file_fingerprint(path)}.webp"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for older in folder.glob(f"{path.stem}*.webp"):  # of a figure that has been drawn again since
            older.unlink(missing_ok=True)
        encoded = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").save(encoded, "WEBP", quality=82, method=4)
        write_atomically(kept, encoded.getvalue())
    return kept.read_bytes()


def _data_uri(image: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(image).decode()
