"""An exported policy: a folder that serves without the code of the network.

    artefact.json         format and version, the wire's metadata, action statistics, tokenizer, platforms, library
                          versions, SHA-256 of every file and of itself
    weights.safetensors   {"dit/block_0/...": array}: the EMA weights by path, frozen encoders included
    encode_text.bin       jax.export: ({"text/...": array}, tokens int32 [1 l]) -> (words, summary, mask)
    act.bin               jax.export: ({all other weights}, images uint8 [b v size size 3], state float32 [b s],
                          (words, summary, mask) of b instructions, seeds uint32 [b]) -> chunks float32 [b h 10]
    tokenizer/            vocabulary of a pretrained text encoder, if it has one

The functions are StableHLO with b left open, lowered for several platforms; JAX promises to read them for six months of
releases. ``export.py`` writes the folder; ``load`` reads it and imports nothing of models, objectives or train.
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax import export

from drifting_vla_jax.core.metadata import read_json
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.models.tokenizers import ByteTokenizer, ClipTokenizer
from drifting_vla_jax.policy.policy import Network, Policy

FORMAT, VERSION = "drifting_vla_jax policy", 1
ABOUT, WEIGHTS, TOKENIZER = "artefact.json", "weights.safetensors", "tokenizer"
ENCODE_TEXT, ACT = "encode_text.bin", "act.bin"
TEXT = "text/"  # paths of the weights that encode instructions


class ArtefactError(RuntimeError):
    """A folder holds no exported policy, one of another version, or a damaged one; one line."""


def is_artifact(folder: str | Path) -> bool:
    """Whether an exported policy is here, whole or not."""
    return (Path(folder) / ABOUT).is_file()


def load(folder: str | Path, batch_sizes: Sequence[int] = (1,), text_cache: int = 256) -> Policy:
    """The policy in a folder, its weights on the default device.

    Raises:
      ArtefactError: there is none, of another version of the format or of JAX, for other devices, or damaged.
    """
    from safetensors.numpy import load_file

    folder = Path(folder)
    about = read(folder)
    here = export.default_export_platform()
    if here not in about["platforms"]:
        raise ArtefactError(
            f"{folder} was exported for {', '.join(about['platforms'])}; this process computes on {here}: "
            f"export it again with --platforms={here}"
        )
    weights = jax.device_put(load_file(folder / WEIGHTS))
    text = {path: value for path, value in weights.items() if path.startswith(TEXT)}
    rest = {path: value for path, value in weights.items() if path not in text}
    encode, act = (_function(folder / name, about["versions"]) for name in (ENCODE_TEXT, ACT))
    network = Network(functools.partial(encode, text), functools.partial(act, rest))
    kind, length = about["tokenizer"]["kind"], about["tokenizer"]["length"]
    tokenizer = ByteTokenizer(length) if kind == "bytes" else ClipTokenizer(folder / TOKENIZER, length)
    actions = ActionNormalizer.from_json(about["actions"])
    metadata = {"weights": about["files"][WEIGHTS], **about["metadata"]}  # older ones do not name them
    return Policy(network, tokenizer, actions, metadata, batch_sizes, text_cache)


def read(folder: Path) -> dict[str, Any]:
    """What artefact.json says, after every file was found to be the one it names.

    Raises:
      ArtefactError: see ``load``.
    """
    if not is_artifact(folder):
        raise ArtefactError(f"{folder} holds no exported policy ({ABOUT}); write one with policy.export")
    found = read_json(folder / ABOUT, ArtefactError, "export it again")
    about = found.values
    if about.get("format") != FORMAT:
        raise ArtefactError(f"{folder / ABOUT} describes no {FORMAT}; write one with policy.export")
    if about.get("version") != VERSION:
        raise ArtefactError(
            f"{folder} is version {about.get('version')} of the format, this code reads {VERSION}; export it again"
        )
    if about.get("hash") != own_hash(about):
        raise ArtefactError(f"{folder / ABOUT} is damaged: its hash is not the one it names; export it again")
    found.texts("platforms"), found.mapping("versions"), found.mapping("metadata"), found.mapping("actions")
    found.mapping("tokenizer").text("kind"), found.mapping("tokenizer").integer("length", least=1)
    files = found.mapping("files")
    for name in files.values:
        expected = files.text(name)
        if not (folder / name).is_file() or file_hash(folder / name) != expected:
            raise ArtefactError(f"{folder / name} is missing or damaged; copy it or export it again")
    return about


def file_hash(path: Path) -> str:
    """SHA-256 in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_hash(about: Mapping[str, Any]) -> str:
    """SHA-256 in hex of artefact.json without its hash: through "files", of the whole artifact."""
    rest = {key: value for key, value in about.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _function(path: Path, versions: Mapping[str, str]):
    """An exported function, compiled when first called with a batch size."""
    try:
        return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    except (ValueError, NotImplementedError, struct.error) as error:  # the last: no such file at all
        raise ArtefactError(
            f"{path} was exported with JAX {versions['jax']}; {jax.__version__} does not read it: export it again"
        ) from error
