"""Demonstrations on their way into a data set: every source hands ``Episode``s (``core/episode.py``) to the builder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from drifting_vla_jax.core.episode import Episode, decode_image, encode_png
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.metadata import read_dict

__all__ = ["Episode", "claim", "decode_image", "encode_png", "held_out_count"]


def claim(folder: Path, settings: Mapping[str, object]) -> None:
    """Writes ``folder``/settings.json, or checks that the episodes already there were made with the same.

    Raises:
      ValueError: they were made with others; says which.
    """
    path = folder / "settings.json"
    if path.exists():
        found = read_dict(path, {})
        changed = [f"{k} {found.get(k)} -> {settings.get(k)}" for k in settings if found.get(k) != settings.get(k)]
        if changed:
            raise ValueError(
                f"{folder} holds episodes made with other settings ({'; '.join(changed)}); "
                f"choose another --out, or remove that folder to record them again"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(settings, indent=1))


def held_out_count(episodes: int, fraction: float) -> int:
    """How many episodes a share for validation is: of two or more at least one, if a share was asked for, and never all."""
    if not fraction or episodes < 2:
        return 0
    return min(max(round(episodes * fraction), 1), episodes - 1)
