"""Folders by name: a directory on this machine, or a repository of the Hugging Face hub (cached as its library does).

HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT mean what they mean everywhere.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from drifting_vla_jax.core import metadata, network

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

    try:
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=list(patterns)))
    except errors() as error:
        option = "" if kind == "model" else f"--repo-type {kind} "
        raise HubError(
            f"there is no directory {name}, and the Hugging Face hub does not give it ({reason(error)}); on a machine without "
            f"network give the directory where another has put it: hf download {name} {option}--local-dir DIR"
        ) from error


def errors() -> tuple[type[Exception], ...]:
    """What the hub's library raises where it cannot give something: its own errors, those of the network and of the disk,
    of a proxy's address and of a library that SOCKS takes, and of an answer that is no hub's."""
    import httpx

    no_hub = (ValueError, LookupError, TypeError, AttributeError)
    return (OSError, RuntimeError, httpx.HTTPError, httpx.InvalidURL, ImportError, *no_hub)


def reason(error: Exception) -> str:
    """What came of asking the hub, in one line: the error, what is behind it, and who was asked if not the hub itself."""
    from huggingface_hub import constants

    chain = [error]
    while behind := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(behind)
    said = [textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")]
    if any(isinstance(e, (json.JSONDecodeError, LookupError, TypeError, AttributeError)) for e in chain):
        said = ["what answers is no hub; a login page of the network may be in between"]
    elif str(chain[-1]) not in said[0] and not isinstance(error, ImportError):
        said.append(textwrap.shorten(str(chain[-1]), 160, placeholder=" ..."))
    asked = constants.ENDPOINT
    proxy = None if constants.HF_HUB_OFFLINE else network.proxy_of(asked, (asked.partition(":")[0], "all"))
    if proxy or asked != "https://huggingface.co":
        said.append(" ".join(["asked was", network.shown(asked), *([str(proxy)] if proxy else [])]))
    return "; ".join(said)


def read_json(path: Path) -> dict:
    """A JSON file of such a folder.

    Raises:
      ValueError: it is missing, damaged, or holds no object.
    """
    return metadata.read_json(path, advice="fetch it again").values
