"""The code of docs/how-to/add-an-encoder.md: an encoder outside the package is trained, acts and is checked."""

import jax
import jax.numpy as jnp
import pytest

from drifting_vla_jax.config import files
from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.config.io import expand_paths, validate
from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured, folder
from drifting_vla_jax.models.encoders.base import Encoder
from drifting_vla_jax.models.encoders.byte_text import ByteText
from drifting_vla_jax.models.vla import make_text, make_vision
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import loop
from tests.pages import write_code
from tests.small import SIZE, small_config


class Shouting(ByteText):
    """A text encoder outside the package."""


@pytest.fixture
def page_config(tmp_path, monkeypatch):
    """The smallest configuration with the encoder of the page."""
    write_code("add-an-encoder.md", tmp_path, monkeypatch)
    vision, config = files.load(str(tmp_path / "my_config.py")).model.vision, small_config()
    config.model.vision.name = vision.name
    with config.unlocked():
        config.model.vision.convnet = vision.convnet
    return config


def test_it_is_built_and_checked(page_config):
    expand_paths(page_config)  # its name is no path of this machine
    validate(page_config)
    encoder, images = make_vision(page_config), jnp.zeros((2, SIZE, SIZE, 3), jnp.uint8)
    tokens, _ = encoder.init_with_output(jax.random.key(0), images)
    assert tokens.shape == (2, (SIZE // 8) ** 2, 64)
    page_config.model.vision.convnet.stride = 0
    with pytest.raises(
        ConfigError, match=r"config.model.vision.convnet.stride is 0; expected a whole number, at least 1"
    ):
        validate(page_config)
    with page_config.unlocked():
        del page_config.model.vision["convnet"]
    with pytest.raises(ConfigError, match=r"config.model.vision.convnet.features is missing"):
        validate(page_config)


def test_a_text_encoder_is_named_likewise(config):
    config.model.text.name = f"{__name__}:Shouting"
    validate(config)
    assert isinstance(make_text(config), Shouting)


@pytest.mark.parametrize(
    "name, words",
    [
        ("my_lab.nowhere:ConvNet", "there is no module 'my_lab'"),
        ("drifting_vla_jax.models.layers:Dense", f"no class derived from {Encoder.__module__}.Encoder"),
    ],
)
def test_what_is_no_encoder_is_refused(config, name, words):
    config.model.vision.name = name
    with pytest.raises(ConfigError, match=words):
        validate(config)


@pytest.mark.slow
def test_it_trains_and_is_evaluated(page_config, dataset_path, tmp_path):
    config, workdir = page_config, tmp_path / "run"
    config.data.path = str(dataset_path)
    config.train.steps, config.train.warmup_steps, config.train.eval_every, config.train.save_every = 2, 1, 2, 2
    config.eval.episodes, config.eval.workers, config.eval.max_steps, config.eval.videos = 1, 1, 6, 0
    config.eval.hold_steps, config.env.tasks = 1, config.env.tasks[:1]
    loop.train(config, workdir, jax.devices()[:1])
    policy = restore(workdir, batch_sizes=batch_sizes(config))
    results = evaluate_configured(policy, config, folder(policy.metadata, config, workdir))
    assert results["overall"]["n"] == 1
