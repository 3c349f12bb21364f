"""Folders by name: a directory on this machine, or a repository of the Hugging Face hub (cached as its library does).

HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT mean what they mean everywhere.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class HubError(RuntimeError):
    """A folder is not here and cannot be fetched; the message says what was looked for and what to do."""


def folder(name: str, patterns: Sequence[str], kind: str = "model") -> Path:
    """The directory ``name``, or the snapshot of the hub's ``owner/name`` with the files that match ``patterns``.

    ``kind``: what the hub has under that name, "model" or "dataset".

    Raises:
      HubError: no such directory, no such repository, or no way to reach it.
    """
    if Path(name).is_dir():
        return Path(name)
    if not HUB_ID.fullmatch(name):
        raise HubError(f"{name!r} is no directory and no name of a repository on the Hugging Face hub (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=list(patterns)))
    except (OSError, HFValidationError) as error:  # the library's own errors of network and cache are OSErrors
        option = "" if kind == "model" else f"--repo-type {kind} "
        reason = textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")
        raise HubError(
            f"there is no directory {name}, and the Hugging Face hub does not give it ({reason}); on a machine without "
            f"network give the directory where another has put it: hf download {name} {option}--local-dir DIR"
        ) from error


def read_json(path: Path) -> dict:
    """A JSON file of such a folder.

    Raises:
      ValueError: it is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from error
