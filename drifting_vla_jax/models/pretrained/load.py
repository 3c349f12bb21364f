"""Pretrained encoders by name: a hub id, a checkpoint's directory, or a directory written by ``convert.py``.

An encoder's identity is the hash of its sizes and parameters, whatever file they came from: a checkpoint of a run
records it in place of the weights, and whoever restores the run must bring the same.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import flax
import jax
import jax.numpy as jnp
import numpy as np

from drifting_vla_jax.core import hub
from drifting_vla_jax.core.metadata import read_json, shown
from drifting_vla_jax.models.encoders import clip_text, dinov2
from drifting_vla_jax.models.encoders.clip_text import ClipText, ClipTextArchitecture
from drifting_vla_jax.models.encoders.dinov2 import DinoArchitecture, DINOv2
from drifting_vla_jax.models.encoders.transformer import ACTIVATIONS
from drifting_vla_jax.models.pretrained.convert import CLIP_TEXT, DINOV2, ConversionError, convert, tensors
from drifting_vla_jax.models.tokenizers import TOKENIZER_FILES, write_alphabet

Architecture = DinoArchitecture | ClipTextArchitecture
WEIGHTS, ABOUT = "encoder.safetensors", "encoder.json"
FILES = ("config.json", ABOUT, "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES)
KNOWN: Mapping[str, Architecture] = dinov2.ARCHITECTURES | clip_text.ARCHITECTURES
_FAMILIES = {  # by the "model_type" of a config.json
    "dinov2": DinoArchitecture,
    "dinov2_with_registers": DinoArchitecture,
    "clip": ClipTextArchitecture,
    "clip_text_model": ClipTextArchitecture,
}
LARGEST_SIZE = 2**24  # of an encoder's sizes
_KINDS = {"dinov2": DinoArchitecture, "clip_text": ClipTextArchitecture}  # in an encoder.json


@dataclass(frozen=True)
class Encoder:
    """One encoder, on the host.

    Attributes:
      source: what it was asked for by.
      params: float32 arrays by path, "tower/blocks/query/kernel".
      hash: 16 hex digits over sizes, names and values.
      folder: where it lies, its tokenizer too; None: nowhere.
    """

    source: str
    architecture: Architecture
    params: dict[str, np.ndarray]
    hash: str
    folder: Path | None

    def tree(self) -> dict:
        """The parameters as the network's nested dict."""
        return flax.traverse_util.unflatten_dict(self.params, sep="/")


def load_architecture(name: str) -> Architecture:
    """The sizes of an encoder, without its weights. Cheap: reads one small file at most.

    Raises:
      HubError: neither a known name nor a directory.
      ValueError: a directory of something else.
    """
    if Path(name).is_dir():
        return _described(Path(name))
    if name in KNOWN:
        return KNOWN[name]
    if not hub.HUB_ID.fullmatch(name):
        raise hub.HubError(f"no encoder {name!r}: no such directory; by name there are {', '.join(sorted(KNOWN))}")
    return _described(_fetched(name))


@functools.cache  # the hub is asked once
def _fetched(name: str) -> Path:
    return hub.folder(name, ("config.json", ABOUT))


def _described(folder: Path) -> Architecture:
    """What a directory says it holds."""
    about, config = folder / ABOUT, folder / "config.json"
    try:
        if about.is_file():
            found = read_json(about, ConversionError, "convert it again").values
            return _KINDS[found["kind"]](**found["architecture"])
        if not config.is_file():
            raise ValueError(f"{folder} has neither {ABOUT} nor config.json: no encoder")
        found = read_json(config, ConversionError, "fetch it again").values
        family = found.get("model_type", "model of no type")
        if family not in _FAMILIES:
            raise ValueError(f"{folder} holds a {family}; expected one of {', '.join(_FAMILIES)}")
        found = _FAMILIES[family].from_hugging_face(found)
    except (KeyError, TypeError, ArithmeticError, AttributeError) as error:
        raise ConversionError(f"{folder} does not describe an encoder: {error!r}; convert or fetch it again") from error
    _check_sizes(found, folder)
    if not isinstance(found.activation, str) or found.activation not in ACTIVATIONS:
        raise ValueError(f"{folder} has the activation {found.activation}; known are {', '.join(ACTIVATIONS)}")
    return found


def _check_sizes(found: Architecture, folder: Path) -> None:
    """That what a file gave as sizes are some."""
    for field in dataclasses.fields(found):
        value, least = getattr(found, field.name), 0 if field.name in ("registers", "end") else 1
        if field.type == "int" and (type(value) is not int or not least <= value <= LARGEST_SIZE):
            raise ConversionError(
                f"{folder}: {field.name} is {shown(value)}; expected a whole number of at least {least}"
            )
    if found.width % found.heads:
        raise ConversionError(f"{folder}: a width of {found.width} cannot be shared among {found.heads} heads")


def shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter, by path."""
    if isinstance(architecture, DinoArchitecture):
        module = DINOv2(architecture, size=0, pool=1, lora=0, remat="none", dtype=jnp.float32)
        example = jnp.zeros((1, architecture.patch, architecture.patch, 3), jnp.uint8)
    else:
        module = ClipText(architecture, lora=0, remat="none", dtype=jnp.float32)
        example = jnp.zeros((1, 2), jnp.int32)
    params = jax.eval_shape(module.init, jax.random.key(0), example)["params"]
    return {path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(params, sep="/").items()}


def load(name: str) -> Encoder:
    """Reads an encoder, fetching it first if it is a hub id that is not in the cache.

    Raises:
      HubError, FileNotFoundError: it is not there.
      ConversionError: it is not what it says it is.
    """
    folder = hub.folder(name, FILES)
    found = _described(folder)
    if not Path(name).is_dir() and found != KNOWN.get(name, found):
        raise ConversionError(f"{folder} holds {found}; {name} is {KNOWN[name]}")
    if (folder / ABOUT).is_file():
        return _read(name, folder, found)
    table = DINOV2 if isinstance(found, DinoArchitecture) else CLIP_TEXT
    params = convert(tensors(folder), table, shapes(found))
    return Encoder(name, found, params, weights_hash(found, params), folder)


def random_weights(name: str, seed: int) -> Encoder:
    """Random weights in the true shapes: for measuring where the real ones cannot be had. They see nothing."""
    found, rng = load_architecture(name), np.random.default_rng(seed)
    params = {}
    for path, shape in shapes(found).items():
        noise = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        params[path] = 1 + noise if path.endswith("scale") else noise
    source = f"random weights of seed {seed} in the shapes of {name}"
    return Encoder(source, found, params, weights_hash(found, params), None)


def write(encoder: Encoder, out: Path) -> None:
    """Writes the directory that ``load`` reads back."""
    from safetensors.numpy import save_file

    out.mkdir(parents=True, exist_ok=True)
    save_file({path: np.ascontiguousarray(value) for path, value in encoder.params.items()}, out / WEIGHTS)
    (out / WEIGHTS).chmod(0o644)  # the library makes it the owner's alone
    for name in TOKENIZER_FILES if encoder.folder else ():
        if (encoder.folder / name).is_file():
            shutil.copyfile(encoder.folder / name, out / name)
    if encoder.folder is None and isinstance(encoder.architecture, ClipTextArchitecture):
        write_alphabet(out, encoder.architecture.end)
    about = {
        "source": encoder.source,
        "kind": next(kind for kind, of in _KINDS.items() if isinstance(encoder.architecture, of)),
        "architecture": dataclasses.asdict(encoder.architecture),
        "hash": encoder.hash,
        "parameters": sum(value.size for value in encoder.params.values()),
    }
    (out / ABOUT).write_text(json.dumps(about, indent=2) + "\n")


def _read(name: str, folder: Path, found: Architecture) -> Encoder:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        params = load_file(folder / WEIGHTS)
    except (SafetensorError, FileNotFoundError) as error:
        raise ConversionError(f"{folder / WEIGHTS} cannot be read: {error}; convert it again") from error
    hashed, written = (
        weights_hash(found, params),
        read_json(folder / ABOUT, ConversionError, "convert it again").values.get("hash"),
    )
    if hashed != written:
        raise ConversionError(f"{folder} is damaged: its hash is {hashed}, {ABOUT} says {written}; convert it again")
    if {path: value.shape for path, value in params.items()} != shapes(found):
        raise ConversionError(f"{folder} was written by another version of this project; convert it again")
    return Encoder(name, found, params, hashed, folder)


def weights_hash(architecture: Architecture, params: Mapping[str, np.ndarray]) -> str:
    """The hash that names these weights in this architecture."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(architecture), sort_keys=True).encode())
    for path in sorted(params):
        digest.update(f"{path} {params[path].shape} {params[path].dtype}\n".encode())
        digest.update(np.ascontiguousarray(params[path]).data)
    return digest.hexdigest()[:16]
