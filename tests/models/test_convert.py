"""Both directions of a conversion: what the source has, what the target needs, everything wrong in one message."""

import numpy as np
import pytest

from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.models.pretrained.convert import CLIP_TEXT, DINOV2, ConversionError, convert, tensors
from tests.models import reference

# One vector, and two layers of one 2 x 3 matrix: numbers small enough to follow.
TABLE = (
    (r"final\.weight", "norm/scale", lambda w: w),
    (r"layer\.(?P<layer>\d+)\.(?P<name>query|key)\.weight", "tower/blocks/{name}/kernel", lambda w: w.T),
)
TARGET = {"norm/scale": (2,), "tower/blocks/query/kernel": (2, 3, 2)}
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
SOURCE = {"final.weight": np.float32([7, 8]), "layer.1.query.weight": MATRIX, "layer.0.query.weight": 10 * MATRIX}


def test_layers_are_stacked_in_their_order():
    out = convert(SOURCE.items(), TABLE, TARGET)
    assert out["norm/scale"].tolist() == [7, 8]
    assert out["tower/blocks/query/kernel"].tolist() == [[[0, 30], [10, 40], [20, 50]], [[0, 3], [1, 4], [2, 5]]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_precision_becomes_float32(dtype, tmp_path):
    """1.5 is the same number in all of them."""
    tensors = reference.weights("dinov2")
    tensors["layernorm.weight"][:] = 1.5
    params = pretrained.load(reference.save("dinov2", tmp_path, tensors, dtype)).params
    assert {value.dtype for value in params.values()} == {np.dtype(np.float32)}
    assert (params["norm/scale"] == 1.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.0.value.weight": MATRIX}, r"nothing is known about layer\.0\.value\.weight \[2, 3\]"),
        ({"layer.0.query.weight": None}, r"nothing sets tower/blocks/query/kernel of layers 0"),
        ({"final.weight": None}, r"nothing sets norm/scale"),
        ({"final.weight": np.zeros(3)}, r"final\.weight is \[3\] for norm/scale, expected \[2\]"),
        ({"layer.0.query.weight": MATRIX.T}, r"layer\.0\.query\.weight is \[2, 3\] for .*, expected \[3, 2\]"),
        ({"layer.2.query.weight": MATRIX}, r"layer\.2\.query\.weight is beyond the architecture's 2 layers"),
        ({"model.final.weight": np.zeros(2)}, r"model\.final\.weight and final\.weight are both for norm/scale"),
        ({"layer.0.key.weight": MATRIX}, r"layer\.0\.key\.weight has no place: .* has no tower/blocks/key/kernel"),
    ],
    ids=["unknown", "missing layer", "missing", "shape", "transposed", "too deep", "twice", "no place"],
)
def test_what_does_not_fit_is_named(change, message):
    source = {name: tensor for name, tensor in {**SOURCE, **change}.items() if tensor is not None}
    with pytest.raises(ConversionError, match=f"^{message}$"):
        convert(source.items(), TABLE, TARGET)


def test_all_that_is_wrong_is_reported_together():
    source = {"final.weight": np.zeros(3), "final.bias": np.zeros(2), "layer.5.query.weight": MATRIX}
    with pytest.raises(ConversionError) as error:
        convert(source.items(), TABLE, TARGET)
    assert str(error.value).split("; ") == [
        "final.weight is [3] for norm/scale, expected [2]",
        "nothing is known about final.bias [2]",
        "layer.5.query.weight is beyond the architecture's 2 layers",
        "nothing sets tower/blocks/query/kernel of layers 0, 1",
    ]


@pytest.mark.parametrize("name", ["embeddings.patch_embeddings.projection.weight", "embeddings.cls_token"])
def test_a_tensor_without_the_right_axes_is_a_wrong_shape(name):
    target = {"patch/kernel": (12, 4), "class": (1, 4)}
    with pytest.raises(ConversionError, match=rf"{name} is \[5\] for"):
        convert([(name, np.zeros(5, np.float32))], DINOV2, target)


def test_the_hubs_names_are_read():
    """The names in facebook/dinov2-* and openai/clip-vit-*, written out."""
    layer, block = "encoder.layer.1", "tower/blocks"
    dino = {
        f"{layer}.attention.attention.query.weight": f"{block}/query/kernel",
        f"{layer}.attention.output.dense.weight": f"{block}/out/kernel",
        f"{layer}.layer_scale1.lambda1": f"{block}/attention_scale",
        f"{layer}.norm2.bias": f"{block}/mlp_norm/bias",
        f"{layer}.mlp.fc1.weight": f"{block}/up/kernel",
        f"{layer}.mlp.weights_out.bias": f"{block}/down/bias",
        "embeddings.cls_token": "class",
        "layernorm.weight": "norm/scale",
    }
    clip = {
        "text_model.encoder.layers.1.self_attn.q_proj.weight": f"{block}/query/kernel",
        "text_model.encoder.layers.1.layer_norm1.weight": f"{block}/attention_norm/scale",
        "text_model.encoder.layers.1.mlp.fc2.bias": f"{block}/down/bias",
        "text_model.embeddings.token_embedding.weight": "embed/embedding",
        "text_model.final_layer_norm.bias": "norm/bias",
    }
    for table, names in ((DINOV2, dino), (CLIP_TEXT, clip)):
        for name, path in names.items():
            with pytest.raises(ConversionError, match=f"{name} has no place: the architecture has no {path}$"):
                convert([(name, np.zeros(2, np.float32))], table, {})


@pytest.mark.parametrize(("whole", "part"), reference.WHOLE.items())
def test_heads_and_other_towers_are_left_behind(whole, part, tmp_path):
    """vision_model.*, projections, logit_scale, classifier, mask token; what is left is what the tower alone gives."""
    drawn = reference.weights(whole)
    alone = {
        name: next(tensor for full, tensor in drawn.items() if full.endswith(name) and "vision" not in full)
        for name in reference.about(part)["shapes"]
    }
    assert len(alone) < len(drawn)
    encoder = pretrained.load(reference.save(whole, tmp_path / "whole"))
    converted = pretrained.load(reference.save(part, tmp_path / "part", alone)).params
    assert converted.keys() == encoder.params.keys()
    for path, value in converted.items():
        np.testing.assert_array_equal(encoder.params[path], value)


def test_old_files_hold_position_ids_too():
    source = {**SOURCE, "text_model.embeddings.position_ids": np.zeros((1, 77))}
    assert convert(source.items(), TABLE, TARGET).keys() == TARGET.keys()


def test_shards_are_one_checkpoint(tmp_path):
    whole = pretrained.load(reference.save("dinov2", tmp_path / "whole"))
    assert pretrained.load(reference.save("dinov2", tmp_path / "sharded", shards=4)).hash == whole.hash


def test_a_missing_shard_is_named(tmp_path):
    reference.save("dinov2", tmp_path, shards=4)
    lost = sorted(tmp_path.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {lost.name}; fetch it again"):
        pretrained.load(str(tmp_path))


@pytest.mark.parametrize("size", [0, 4, 1000, -4])
def test_a_truncated_file_is_named(size, tmp_path):
    reference.save("dinov2", tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ConversionError, match=r"model\.safetensors is damaged: .*; fetch it again"):
        dict(tensors(tmp_path))


def test_a_damaged_index_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"layer')
    with pytest.raises(ValueError, match=r"index\.json is damaged: .*; fetch it again"):
        dict(tensors(tmp_path))
