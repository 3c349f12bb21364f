"""Weights of Hugging Face checkpoints -> parameters of ``dinov2.DINOv2`` and ``clip_text.ClipText``.

    python -m drifting_vla_jax.models.pretrained --model=facebook/dinov2-large --out=DIR

One table per family: a pattern over the source's names, the target's path, what is done to the array. Both directions
are checked: every source tensor is used or on the list of those to ignore, every parameter is set once, shapes agree;
all that is wrong is reported together. Without torch.

DIR holds ``encoder.safetensors`` (parameters by path, layers stacked), ``encoder.json`` (source, architecture, hash) and
the tokenizer's files, and may stand wherever a configuration names an encoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from absl import flags

from drifting_vla_jax.core.metadata import read_json

FLAGS = flags.FLAGS
Array = np.ndarray


class ConversionError(ValueError):
    """A checkpoint that is not what its configuration says; every discrepancy, one after the other."""


def _keep(w: Array) -> Array:
    return w


def _matrix(w: Array) -> Array:
    """torch's Linear [out, in] -> a kernel [in, out]."""
    return w.T


def _patch(w: Array) -> Array:
    """torch's Conv2d [out, c, y, x] over whole patches -> a kernel [y x c, out]; what is no such thing stays as it is."""
    return w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0]) if w.ndim == 4 else w


def _tokens(w: Array) -> Array:
    """[1, n, d] -> [n, d]; what is no such thing stays as it is."""
    return w[0] if w.ndim == 3 and len(w) == 1 else w


# Heads, whole models and versions of transformers put these before the same names.
PREFIX = r"((dinov2|dinov2_with_registers|clip|model|text_model)\.)*"
# (pattern over source names, path of the parameter, transform). A named group "layer" is the index on the stacked axis.
Table = tuple[tuple[str, str, Callable[[Array], Array]], ...]


def _dense(source: str, path: str, transform: Callable[[Array], Array] = _matrix) -> Table:
    """The two tensors of a layer with a kernel and a bias."""
    return (rf"{source}\.weight", f"{path}/kernel", transform), (rf"{source}\.bias", f"{path}/bias", _keep)


def _norm(source: str, path: str) -> Table:
    """The two tensors of a LayerNorm."""
    return (rf"{source}\.weight", f"{path}/scale", _keep), (rf"{source}\.bias", f"{path}/bias", _keep)


_DINO, _CLIP, _BLOCKS = r"encoder\.layer\.(?P<layer>\d+)", r"encoder\.layers\.(?P<layer>\d+)", "tower/blocks"
DINOV2: Table = (
    (r"embeddings\.cls_token", "class", _tokens),
    (r"embeddings\.register_tokens", "registers", _tokens),
    (r"embeddings\.position_embeddings", "position", _tokens),
    *_dense(r"embeddings\.patch_embeddings\.projection", "patch", _patch),
    *_norm(rf"{_DINO}\.norm1", f"{_BLOCKS}/attention_norm"),
    *_dense(rf"{_DINO}\.attention\.attention\.(?P<name>query|key|value)", f"{_BLOCKS}/{{name}}"),
    *_dense(rf"{_DINO}\.attention\.output\.dense", f"{_BLOCKS}/out"),
    (rf"{_DINO}\.layer_scale1\.lambda1", f"{_BLOCKS}/attention_scale", _keep),
    *_norm(rf"{_DINO}\.norm2", f"{_BLOCKS}/mlp_norm"),
    *_dense(rf"{_DINO}\.mlp\.(fc1|weights_in)", f"{_BLOCKS}/up"),
    *_dense(rf"{_DINO}\.mlp\.(fc2|weights_out)", f"{_BLOCKS}/down"),
    (rf"{_DINO}\.layer_scale2\.lambda1", f"{_BLOCKS}/mlp_scale", _keep),
    *_norm("layernorm", "norm"),
)
CLIP_TEXT: Table = (
    (r"embeddings\.token_embedding\.weight", "embed/embedding", _keep),
    (r"embeddings\.position_embedding\.weight", "position", _keep),
    *_norm(rf"{_CLIP}\.layer_norm1", f"{_BLOCKS}/attention_norm"),
    *_dense(rf"{_CLIP}\.self_attn\.q_proj", f"{_BLOCKS}/query"),
    *_dense(rf"{_CLIP}\.self_attn\.k_proj", f"{_BLOCKS}/key"),
    *_dense(rf"{_CLIP}\.self_attn\.v_proj", f"{_BLOCKS}/value"),
    *_dense(rf"{_CLIP}\.self_attn\.out_proj", f"{_BLOCKS}/out"),
    *_norm(rf"{_CLIP}\.layer_norm2", f"{_BLOCKS}/mlp_norm"),
    *_dense(rf"{_CLIP}\.mlp\.fc1", f"{_BLOCKS}/up"),
    *_dense(rf"{_CLIP}\.mlp\.fc2", f"{_BLOCKS}/down"),
    *_norm("final_layer_norm", "norm"),
)
# What the checkpoints hold besides: masked-image training, classifiers, CLIP's other tower and what joins the two.
IGNORED = (
    r"embeddings\.mask_token",
    r"embeddings\.position_ids",
    r"classifier\.(weight|bias)",
    r"vision_model\..*",
    r"(visual|text)_projection\.weight",
    r"logit_scale",
)


def convert(
    source: Iterable[tuple[str, Array]], table: Table, target: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Parameters by path, float32, from (name, tensor) pairs.

    Args:
      target: shape of every parameter wanted; those of layers have the layer as their first axis.

    Raises:
      ConversionError: with every problem found.
    """
    out, setter, problems = {}, {}, []  # setter: which tensor set which layer of which parameter
    for name, tensor in source:
        found = _find(name, table)
        if found is None:
            if not _is_ignored(name):
                problems.append(f"nothing is known about {name} {list(tensor.shape)}")
            continue
        path, layer, transform = found
        if path not in target:
            problems.append(f"{name} has no place: the architecture has no {path}")
            continue
        value, shape = transform(tensor), target[path] if layer is None else target[path][1:]
        if (path, layer) in setter:
            problems.append(f"{name} and {setter[path, layer]} are both for {path}")
        elif layer is not None and layer >= target[path][0]:
            problems.append(f"{name} is beyond the architecture's {target[path][0]} layers")
        elif value.shape != shape:
            problems.append(f"{name} is {list(value.shape)} for {path}, expected {list(shape)}")
        else:
            if path not in out:
                out[path] = np.empty(target[path], np.float32)
            out[path][... if layer is None else layer] = value
        setter[path, layer] = name
    problems += _missing(setter, target)
    if problems:
        raise ConversionError("; ".join(problems))
    return out


def _missing(setter: Mapping[tuple[str, int | None], str], target: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    for path, shape in target.items():
        layers = range(shape[0]) if "/blocks/" in path else (None,)
        missing = [layer for layer in layers if (path, layer) not in setter]
        if missing:
            where = "" if missing == [None] else f" of layers {', '.join(map(str, missing))}"
            yield f"nothing sets {path}{where}"


def _find(name: str, table: Table) -> tuple[str, int | None, Callable] | None:
    """The parameter that a source tensor is for, which layer of it, and what to do to the tensor."""
    for pattern, path, transform in table:
        match = re.fullmatch(PREFIX + pattern, name)
        if match:
            groups = match.groupdict()
            return path.format(**groups), int(groups["layer"]) if "layer" in groups else None, transform
    return None


def _is_ignored(name: str) -> bool:
    return any(re.fullmatch(PREFIX + pattern, name) for pattern in IGNORED)


def tensors(folder: Path) -> Iterator[tuple[str, Array]]:
    """Every tensor of a checkpoint's safetensors files, one at a time, sharded or not.

    Raises:
      FileNotFoundError: there is none, or a shard is missing.
      ValueError, ConversionError: the index or a file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    files = _shards(index) if index.is_file() else ["model.safetensors"]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {', '.join(missing)}; fetch it again (a checkpoint of pytorch_model.bin alone: "
            "save it once more with transformers, which writes safetensors)"
        )
    for name in files:
        try:
            with safe_open(folder / name, framework="numpy") as file:
                for key in file.keys():  # noqa: SIM118 - not a dict
                    yield key, file.get_tensor(key)
        except SafetensorError as error:
            raise ConversionError(f"{folder / name} is damaged: {error}; fetch it again") from error


def _shards(index: Path) -> list[str]:
    """Files that an index names, all of its own folder."""
    fields = read_json(index, ConversionError, "fetch it again").mapping("weight_map")
    names = {fields.text(key) for key in fields.values}
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise fields.fault(f"{outside[0]!r} is no file beside it")
    return sorted(names)
