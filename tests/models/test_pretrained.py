"""Encoders by name, read back as they were written, known by their hash; and the command that writes them."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.hub import HubError
from drifting_vla_jax.models.encoders.clip_text import ClipTextArchitecture
from drifting_vla_jax.models.encoders.dinov2 import DinoArchitecture
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.models.pretrained.convert import ConversionError
from tests import commands
from tests.models import reference
from tests.models.vocabulary import write_vocabulary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A shrunk DINOv2 as the hub would have it."""
    return reference.save("dinov2", tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def artifact(checkpoint, tmp_path_factory):
    """The same, converted."""
    out = tmp_path_factory.mktemp("artifact")
    pretrained.write(pretrained.load(checkpoint), out)
    return out


def copy_of(artifact, tmp_path):
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


def test_architectures_by_name():
    assert pretrained.load_architecture("facebook/dinov2-small") == DinoArchitecture(384, 12, 6, 1536, "gelu")
    assert pretrained.load_architecture("openai/clip-vit-large-patch14") == ClipTextArchitecture(768, 12, 12, 3072)
    assert len(pretrained.KNOWN) == 11


def test_architectures_by_directory(checkpoint, artifact):
    expected = DinoArchitecture(48, 3, 3, 192, "gelu", grid=5, epsilon=0.01)
    assert pretrained.load_architecture(checkpoint) == pretrained.load_architecture(str(artifact)) == expected


def test_what_a_config_leaves_out_is_openais_base(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip", "text_config": {"hidden_size": 640}}')
    assert pretrained.load_architecture(str(tmp_path)) == ClipTextArchitecture(640, 12, 8, 2048)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "has neither encoder.json nor config.json: no encoder"),
        (
            {"model_type": "bert", "hidden_size": 768},
            "holds a bert; expected one of dinov2, dinov2_with_registers, clip",
        ),
        ({"hidden_size": 768}, "holds a model of no type; expected one of"),
        (
            {"model_type": "dinov2", "hidden_size": 768},
            "config.json: num_hidden_layers is missing; fetch it again",
        ),
        ({"model_type": "clip", "hidden_size": 0}, "width is 0; expected a whole number of at least 1"),
        ({"model_type": "clip", "num_attention_heads": 7}, "a width of 512 cannot be shared among 7 heads"),
        (
            {"model_type": "clip", "text_config": {"hidden_act": "relu"}},
            "has the activation relu; known are gelu, quick",
        ),
    ],
    ids=["nothing", "bert", "no type", "no depth", "no width", "heads", "relu"],
)
def test_directories_of_something_else(config, message, tmp_path):
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        pretrained.load_architecture(str(tmp_path))


def test_an_unknown_name_lists_the_known():
    with pytest.raises(
        HubError, match="no encoder 'dinov2': no such directory; by name there are facebook/dinov2-base,"
    ):
        pretrained.load_architecture("dinov2")


def test_an_artifact_is_read_back_bit_for_bit(checkpoint, artifact):
    source, again = pretrained.load(checkpoint), pretrained.load(str(artifact))
    assert again.hash == source.hash and again.architecture == source.architecture
    assert again.params.keys() == source.params.keys()
    for path, value in source.params.items():
        np.testing.assert_array_equal(again.params[path], value)
    assert again.tree()["tower"]["blocks"]["query"]["kernel"].shape == (3, 48, 48)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9999])
def test_a_flipped_bit_is_refused(place, artifact, tmp_path):
    """In the names and shapes at the start of the file or in the numbers that follow."""
    copy = copy_of(artifact, tmp_path)
    data = bytearray((copy / "encoder.safetensors").read_bytes())
    data[int(place * len(data))] ^= 1
    (copy / "encoder.safetensors").write_bytes(data)
    with pytest.raises(ConversionError, match="convert it again"):
        pretrained.load(str(copy))


def test_other_sizes_for_the_same_numbers_are_refused(artifact, tmp_path):
    copy = copy_of(artifact, tmp_path)
    about = json.loads((copy / "encoder.json").read_text())
    about["architecture"]["heads"] = 6
    (copy / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(ConversionError, match=r"copy is damaged: its hash is \w{16}, encoder.json says \w{16}"):
        pretrained.load(str(copy))


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.json"])
def test_half_an_artifact_is_refused(name, artifact, tmp_path):
    copy = copy_of(artifact, tmp_path)
    (copy / name).write_bytes((copy / name).read_bytes()[:-40])
    with pytest.raises(ValueError, match="(cannot be read|is damaged): .*"):
        pretrained.load(str(copy))
    (copy / name).unlink()
    with pytest.raises(ValueError, match=r"(cannot be read|no encoder)"):
        pretrained.load(str(copy))


def test_the_tokenizer_comes_along(tmp_path):
    write_vocabulary(tmp_path / "clip")
    reference.save("clip", tmp_path / "clip")
    pretrained.write(pretrained.load(str(tmp_path / "clip")), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
        "merges.txt",
        "vocab.json",
    ]


def test_random_weights_have_the_shapes_and_the_seed(artifact):
    one, same, other = (pretrained.random_weights(str(artifact), seed) for seed in (1, 1, 2))
    assert one.hash == same.hash != other.hash
    assert {path: value.shape for path, value in one.params.items()} == pretrained.shapes(one.architecture)
    assert {value.dtype for value in one.params.values()} == {np.dtype(np.float32)}
    assert abs(one.params["norm/scale"].mean() - 1) < 0.02 and abs(one.params["norm/bias"].mean()) < 0.02


def convert(*arguments: str) -> subprocess.CompletedProcess:
    return commands.run("drifting_vla_jax.models.pretrained", *arguments)


@pytest.mark.slow
def test_the_command_converts_a_directory(checkpoint, tmp_path):
    done = convert(f"--model={checkpoint}", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    expected = pretrained.load(checkpoint)
    assert f"114,768 parameters, hash {expected.hash}" in done.stdout
    assert pretrained.load(str(tmp_path)).hash == expected.hash


@pytest.mark.slow
def test_the_command_draws_random_weights_without_a_download(tmp_path):
    done = convert("--model=facebook/dinov2-small", "--random=3", f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr
    encoder = pretrained.load(str(tmp_path))
    assert encoder.architecture == pretrained.KNOWN["facebook/dinov2-small"]
    assert encoder.hash == pretrained.random_weights("facebook/dinov2-small", 3).hash
    assert "random weights of seed 3" in json.loads((tmp_path / "encoder.json").read_text())["source"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model=dinov9", "--out=w"), "'dinov9' is no directory and no name of a repository on the Hugging Face hub"),
        (("--model=/no/such", "--out=w"), "'/no/such' is no directory"),
        (("--model=dinov9", "--random=0", "--out=w"), "no encoder 'dinov9': no such directory; by name there are"),
    ],
    ids=["unknown", "no directory", "random of unknown"],
)
def test_bad_input_is_one_line(arguments, message):
    done = convert(*arguments)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (ROOT / "w").exists()


@pytest.mark.slow
def test_another_kind_of_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    done = convert(f"--model={tmp_path}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} holds a bert; expected one of dinov2,")
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_help_names_the_options():
    done = convert("--help")
    assert "--model" in done.stdout and "--out" in done.stdout and "--random" in done.stdout
