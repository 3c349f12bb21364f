"""Makes ``tests/fixtures/parity.npz``: outputs of transformers and torch that the tests compare with (see ``reference.py``).

pip install -e '.[parity]' && python -m tests.models.make_stored_outputs
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from tests.models import reference
from tests.models.clip_texts import checksums, sentences
from tests.models.vocabulary import write_vocabulary

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

SHRUNK = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "layer_norm_eps": 0.01}
TEXT = {**SHRUNK, "intermediate_size": 96, "vocab_size": 60, "eos_token_id": 59, "bos_token_id": 58}
IMAGE = {**SHRUNK, "patch_size": 14, "image_size": 70}
TRUE_IMAGE = {"patch_size": 14, "image_size": 518}
GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True, **TRUE_IMAGE}
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, **TRUE_IMAGE}
WHOLE_CLIP = {"text_config": TEXT, "vision_config": {**SHRUNK, "intermediate_size": 96, "image_size": 64}}

# Case -> the model's class and what its configuration is to say.
MODELS = {
    "dinov2": ("Dinov2Model", IMAGE),
    "dinov2-registers": ("Dinov2WithRegistersModel", {**IMAGE, "num_register_tokens": 4}),
    "dinov2-swiglu": ("Dinov2Model", {**IMAGE, "use_swiglu_ffn": True}),
    "dinov2-quick_gelu": ("Dinov2Model", {**IMAGE, "hidden_act": "quick_gelu"}),
    "facebook/dinov2-small": ("Dinov2Model", SMALL),
    "facebook/dinov2-base": ("Dinov2Model", {**SMALL, "hidden_size": 768, "num_attention_heads": 12}),
    "facebook/dinov2-large": (
        "Dinov2Model",
        {**SMALL, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    ),
    "facebook/dinov2-with-registers-small": ("Dinov2WithRegistersModel", {**SMALL, "num_register_tokens": 4}),
    "facebook/dinov2-giant, one layer": ("Dinov2Model", {**GIANT, "num_hidden_layers": 1}),
    "facebook/dinov2-giant": ("Dinov2Model", GIANT),
    "facebook/dinov2-with-registers-giant": ("Dinov2WithRegistersModel", {**GIANT, "num_register_tokens": 4}),
    "clip": ("CLIPTextModel", {**TEXT, "hidden_act": "gelu"}),
    "clip-quick_gelu": ("CLIPTextModel", {**TEXT, "hidden_act": "quick_gelu"}),
    "clip-end_is_2": ("CLIPTextModel", {**TEXT, "eos_token_id": 2}),
    "openai/clip-vit-base-patch32": (
        "CLIPTextModel",
        {
            "hidden_size": 512,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            "eos_token_id": 2,
        },
    ),
    "openai/clip-vit-large-patch14": (
        "CLIPTextModel",
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "eos_token_id": 49407,
        },
    ),
    "CLIPModel": ("CLIPModel", WHOLE_CLIP),
    "CLIPTextModelWithProjection": ("CLIPTextModelWithProjection", TEXT),
    "Dinov2ForImageClassification": ("Dinov2ForImageClassification", IMAGE),
}


def about(case: str) -> dict:
    """The configuration and the tensors' shapes, as ``save_pretrained`` writes them; a giant's, as the model has them."""
    name, settings = MODELS[case]
    kind = getattr(transformers, name)
    config = kind.config_class(**settings)
    if case in reference.GIANTS:
        with torch.device("meta"):
            model = kind(config)
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        return {"config": json.loads(config.to_json_string()), "shapes": shapes}
    with tempfile.TemporaryDirectory() as folder, transformers.initialization.no_init_weights():
        kind(config).save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
        return {"config": json.loads((Path(folder) / "config.json").read_text()), "shapes": shapes}


def outputs(case: str) -> Iterator[tuple[str, np.ndarray]]:
    """(key, summary) for every input of a case."""
    sizes = reference.IMAGES.get(case) or reference.TEXTS[case]
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        kind = getattr(transformers, MODELS[case][0])
        model, loaded = kind.from_pretrained(reference.save(case, Path(folder)), output_loading_info=True)
        assert not any(loaded.values()), loaded  # every tensor has its place
        for size in sizes:
            x = reference.inputs(case, size)
            yield reference.key(case, size), reference.summary(images(model, x) if x.ndim == 4 else texts(model, x))


def images(model, x: np.ndarray) -> list:
    pixels = torch.tensor((x / 255 - IMAGENET_DEFAULT_MEAN) / IMAGENET_DEFAULT_STD, dtype=torch.float32)
    out = model.eval()(pixels.permute(0, 3, 1, 2), output_hidden_states=True)
    kept = [0, *range(1 + getattr(model.config, "num_register_tokens", 0), out.last_hidden_state.shape[1])]
    return [*out.hidden_states, out.last_hidden_state[:, kept]]


def texts(model, x: np.ndarray) -> list:
    out = model.eval()(torch.tensor(x, dtype=torch.long), output_hidden_states=True)
    return [*out.hidden_states, out.last_hidden_state, out.pooler_output]


def resampled() -> Iterator[tuple[str, np.ndarray]]:
    """The response to a unit at each place of the old grid is a column of the matrix."""
    bicubic = {"mode": "bicubic", "align_corners": False}
    grid = torch.tensor(np.random.default_rng(0).standard_normal((9, 7, 3), np.float32)).permute(2, 0, 1)[None]
    for end, antialias in (("", False), ("-antialias", True)):
        for old, new in reference.RESAMPLED:
            units = torch.eye(old)[:, None, :, None].expand(
                old, 1, old, 4
            )  # columns alike: the other axis does nothing
            out = torch.nn.functional.interpolate(units, size=(new, 4), antialias=antialias, **bicubic)
            yield f"resample/{old}-{new}{end}", out[:, 0, :, 0].T.numpy()
        out = torch.nn.functional.interpolate(grid, size=(4, 11), antialias=antialias, **bicubic)
        yield f"resample/grid{end}", out[0].permute(1, 2, 0).numpy()


def tokens() -> Iterator[tuple[str, np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(str(write_vocabulary(Path(folder) / "words")))
        tokenizer.save_pretrained(folder)
        yield "tokens/tokenizer.json", np.frombuffer((Path(folder) / "tokenizer.json").read_bytes(), np.uint8)
    ids = tokenizer(list(sentences(1000)), max_length=77, truncation=True, padding="max_length")["input_ids"]
    yield "tokens/ids", checksums(ids)


def main() -> None:
    made = {f"{case}/about": np.array(json.dumps(about(case))) for case in MODELS}
    np.savez_compressed(reference.STORED, **made)  # the weights follow from it
    for case in (*reference.IMAGES, *reference.TEXTS):
        made |= dict(outputs(case))
    np.savez_compressed(reference.STORED, **made, **dict(resampled()), **dict(tokens()))
    print(f"{reference.STORED}: {reference.STORED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
