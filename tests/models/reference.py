"""What transformers and torch give, kept in ``tests/fixtures/parity.npz``, and the weights and inputs that they gave it for.

Weights are drawn by numpy under the names and shapes that transformers writes, so tests need neither library;
``make_stored_outputs.py`` made the file with both, and ``test_stored_outputs.py`` makes it again where they are installed.

    <case>/about            JSON: config.json, and the shape of every tensor of the checkpoint, by name
    <case>/<input>          [outputs, 1 + SAMPLES + SUMS]: every layer, the embeddings first, then what the tower returns
    resample/<old>-<new>[-antialias], resample/grid-...      torch's bicubic interpolation
    tokens/ids              [texts, 2]: a checksum of a text's ids, how many they are; tokens/tokenizer.json
"""

import functools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import flax
import jax
import numpy as np
from safetensors.numpy import save_file

from drifting_vla_jax.models.encoders.dinov2 import DinoArchitecture
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.models.pretrained.convert import CLIP_TEXT, DINOV2, convert

STORED = Path(__file__).parents[1] / "fixtures" / "parity.npz"
SAMPLES, SUMS = 24, 8
TOLERANCE = 2e-5

# Case -> (height, width) of its images, or the length of its texts. An epsilon of 0.01 is so large that it shows.
SMALL_IMAGES = ((70, 70), (28, 56), (112, 84))  # a grid of 5 x 5, as trained; smaller; larger and not square
IMAGES = {
    "dinov2": SMALL_IMAGES,
    "dinov2-registers": SMALL_IMAGES,
    "dinov2-swiglu": SMALL_IMAGES,
    "dinov2-quick_gelu": SMALL_IMAGES,
    "facebook/dinov2-small": ((224, 224), (280, 280)),
    "facebook/dinov2-base": ((224, 224), (280, 280)),
    "facebook/dinov2-large": ((224, 224),),
    "facebook/dinov2-with-registers-small": ((224, 224), (280, 280)),
    "facebook/dinov2-giant, one layer": ((224, 224),),
}
TEXTS = {
    "clip": (77, 16),
    "clip-quick_gelu": (77, 16),
    "clip-end_is_2": (16,),
    "openai/clip-vit-base-patch32": (77, 24),
    "openai/clip-vit-large-patch14": (77, 24),
}
# Whole models, of which only a tower is ours: case -> the tower alone. No outputs.
WHOLE = {"CLIPModel": "clip", "CLIPTextModelWithProjection": "clip", "Dinov2ForImageClassification": "dinov2"}
GIANTS = ("facebook/dinov2-giant", "facebook/dinov2-with-registers-giant")  # too large to run: names and shapes
RESAMPLED = ((37, 16), (37, 20), (37, 37), (16, 37), (5, 1), (3, 8), (2, 5), (1, 3))


@functools.cache
def stored() -> Mapping[str, np.ndarray]:
    with np.load(STORED) as file:
        return dict(file)


def about(case: str) -> dict:
    """{"config": config.json, "shapes": {name: shape}} as transformers wrote them."""
    return json.loads(str(stored()[f"{case}/about"]))


def draw(name: str, shape) -> np.ndarray:
    """A tensor of the case's weights, by its name; none is 0 or 1, so that none can be forgotten and go unnoticed."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.random(shape, np.float32)
    values -= np.float32(0.5)
    values *= np.float32(12**0.5)  # of variance 1
    if "embedding" in name and "projection" not in name:
        return values * np.float32(0.5)
    if len(shape) > 1:
        return values * np.float32(np.prod(shape[1:]) ** -0.5)
    return values * np.float32(0.3) + np.float32(not name.endswith("bias"))


def weights(case: str) -> dict[str, np.ndarray]:
    return {name: draw(name, shape) for name, shape in about(case)["shapes"].items()}


def save(
    case: str, folder: Path, tensors: Mapping[str, np.ndarray] | None = None, dtype: str = "float32", shards=1
) -> str:
    """Writes a checkpoint as transformers does and returns its directory as text: a name for ``pretrained``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(about(case)["config"], indent=2))
    tensors = weights(case) if tensors is None else tensors
    names, written = list(tensors), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
        chosen = {name: np.asarray(tensors[name], dtype) for name in names[shard::shards]}
        save_file(chosen, folder / file, {"format": "pt"})
        written |= dict.fromkeys(chosen, file)
    if shards > 1:
        index = {"metadata": {}, "weight_map": written}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(folder)


def encoder(case: str):
    """(architecture, parameters) of a case, without a file."""
    found = pretrained._FAMILIES[about(case)["config"]["model_type"]].from_hugging_face(about(case)["config"])
    table = DINOV2 if isinstance(found, DinoArchitecture) else CLIP_TEXT
    named = about(case)["shapes"].items()
    return found, convert(((name, draw(name, shape)) for name, shape in named), table, pretrained.shapes(found))


def photographs(height: int, width: int, n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


def instructions(end: int, length: int, words=(3, 1, 40)) -> np.ndarray:
    """Start, so many words, end, then ends as padding."""
    rng = np.random.default_rng(0)
    tokens = np.full((len(words), length), end, np.int32)
    for row, count in enumerate(words):
        count = min(count, length - 2)
        tokens[row, : 1 + count] = [end - 1, *rng.integers(0, end - 1, count)]
    return tokens


def inputs(case: str, size) -> np.ndarray:
    if case in IMAGES:
        return photographs(*size, n=1 if "/" in case else 2)
    return instructions(about(case)["config"]["vocab_size"] - 1, size)


def key(case: str, size) -> str:
    return f"{case}/{size[0]}x{size[1]}" if case in IMAGES else f"{case}/{size}"


def run(module, params: Mapping[str, np.ndarray], x):
    """The module's output, and what each layer hands on, the embeddings first."""
    apply = jax.jit(lambda params, x: module.apply({"params": params}, x, mutable=["intermediates"]))
    out, state = jax.device_get(apply(flax.traverse_util.unflatten_dict(params, sep="/"), x))
    state = state["intermediates"]
    return out, [*state["embedded"], *state["tower"]["blocks"]["hidden"][0]]


def summary(arrays) -> np.ndarray:
    """[arrays, 1 + SAMPLES + SUMS]: root mean square, numbers at fixed places, sums of all numbers with random signs.

    A sum sees every number; each is divided by the root of their count, so that it is as large as one of them.
    """
    rows = []
    for array in arrays:
        flat, rng = np.asarray(array, np.float64).ravel(), np.random.default_rng(0)
        sums = (rng.integers(0, 2, (SUMS, flat.size), np.int8) * 2.0 - 1) @ flat / np.sqrt(flat.size)
        places = rng.integers(0, flat.size, SAMPLES)
        rows.append([np.sqrt(np.square(flat).mean()), *flat[places], *sums])
    return np.array(rows, np.float32)


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest error of any output, relative to the root mean square of what it should be."""
    assert ours.shape == theirs.shape
    return float((np.abs(ours - theirs).max(1) / theirs[:, 0]).max())
