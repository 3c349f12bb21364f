"""Pretrained encoders in a run: borrowed or trained further, never mistaken for one another, never saved twice."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.models.encoders.clip_text import ClipText
from drifting_vla_jax.models.encoders.registry import is_frozen
from drifting_vla_jax.models.pretrained import load as pretrained
from drifting_vla_jax.models.tokenizers import ClipTokenizer, make_tokenizer
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import cache_features, frozen_encoders, loop, sharding
from drifting_vla_jax.train.frozen_encoders import load_encoders, place_frozen_encoders
from drifting_vla_jax.train.state import create_state, init_state
from drifting_vla_jax.train.step import compile_train_step
from tests.policy.test_policy import observation
from tests.small import small_encoders, with_encoders


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    return small_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture
def config(config, encoders):
    """The small configuration with frozen encoders, for a run of two steps."""
    t = config.train
    t.steps, t.warmup_steps, t.eval_every, t.save_every, t.learning_rate = 2, 1, 2, 2, 0.1
    return with_encoders(config, encoders)


def one_step(config):
    """A state before and after a step of real data, and what stood beside it."""
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    dataset = DataSet(config.data.path, config.env.cameras)
    found = load_encoders(config)
    beside = place_frozen_encoders(config, found, mesh, dataset.instructions)
    actions, on = dataset.action_space(config), sharding.batch_sharding(mesh)
    batches = pipeline.batches(
        dataset, "train", actions, config, train=True, sharding=on, encoder_hash=found["vision"].hash
    )
    state, step = create_state(config, mesh, found), compile_train_step(config, mesh)
    before = jax.device_get(state)
    for _ in range(2):  # the first has learning rate 0
        state, info = step(state, next(batches), beside)
    assert info["finite"]
    return before, jax.device_get(state), beside


def changed(before, after):
    """Paths of the parameters that a step changed."""
    before, after = (flatten_dict(state.params, sep="/") for state in (before, after))
    return {path for path in before if np.any(before[path] != after[path])}


@pytest.mark.slow
def test_a_frozen_encoder_is_beside_the_state_and_a_text_encoder_not_even_there(config):
    before, after, beside = one_step(config)
    assert set(beside.params) == {"vision"} and not {"vision", "text"} & set(before.params)
    assert beside.text.words.shape == (8, 32, 16)  # eight instructions
    assert {path.split("/")[0] for path in changed(before, after)} == set(before.params)
    held = flatten_dict(before.opt_state[1][0].mu, sep="/")
    assert not [path for path in held if path.startswith(("vision/", "text/"))]


@pytest.mark.slow
def test_an_unfrozen_encoder_starts_from_its_weights_and_is_trained(config, encoders):
    config.train.freeze, config.train.lr_scale.vision = ("text",), 0.5
    before, after, beside = one_step(config)
    loaded = pretrained.load(encoders["vision"]).params
    state = flatten_dict(before.params["vision"], sep="/")
    assert set(state) == set(loaded) and not beside.params
    for path, value in state.items():
        np.testing.assert_array_equal(value, loaded[path])
    trained = [path for path in changed(before, after) if path.startswith("vision/")]
    assert len(trained) > len(loaded) / 2


@pytest.mark.slow
def test_adapters_are_trained_on_a_frozen_encoder(config):
    config.model.vision.lora = config.model.text.lora = 2
    before, after, beside = one_step(config)
    for part in ("vision", "text"):
        assert {path.split("/")[-1] for path in flatten_dict(before.params[part], sep="/")} == {"lora_down", "lora_up"}
        moved = {path for path in changed(before, after) if path.startswith(f"{part}/")}
        assert moved and all("lora_" in path for path in moved)
        assert not [path for path in flatten_dict(beside.params[part], sep="/") if "lora" in path]
    assert beside.text is None and not is_frozen(config, "text")  # it changes with its adapters: encoded in every step


def test_frozen_weights_in_half_precision(config):
    config.model.frozen_dtype = "bfloat16"
    found = load_encoders(config)
    beside = place_frozen_encoders(config, found, sharding.single_device_mesh(), None)
    assert {leaf.dtype for leaf in jax.tree.leaves(beside.params)} == {jnp.dtype("bfloat16")}


def test_the_table_of_instructions_is_what_the_encoder_says(config):
    """Encoded in pieces and padded, and still each instruction its own."""
    texts = [f"go to number {i}" for i in range(70)]
    tokens = make_tokenizer(config)(texts)
    found = load_encoders(config)["text"]
    table = frozen_encoders.encode_instructions(config, found.tree(), tokens)
    alone = jax.jit(ClipText(found.architecture, 0, "none", jnp.float32).apply)({"params": found.tree()}, tokens[69:])
    np.testing.assert_allclose(table.words[69], alone.words[0], atol=1e-5)
    np.testing.assert_allclose(table.summary[69], alone.summary[0], atol=1e-5)
    assert table.mask.shape == (70, 32) and table.mask[69].sum() == len("gotonumber69") + 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where ``run`` leaves the one training of this module."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def run(config, trained, tmp_path):
    """A copy of a training of two steps."""
    if not (trained / "run").exists():
        loop.train(config, trained / "run", jax.devices()[:1])
    return shutil.copytree(trained / "run", tmp_path / "run")


@pytest.mark.slow
def test_a_run_names_its_encoders_and_does_not_save_them(config, run, encoders, tmp_path):
    step = run / "checkpoints" / "2"
    saved = json.loads((step / "params" / "_METADATA").read_text())["tree_metadata"]
    assert saved and not [key for key in saved if key.startswith(("('vision'", "('text'"))]
    assets = json.loads((step / "assets" / "metadata").read_text())
    assert assets["encoders"] == {part: pretrained.load(name).hash for part, name in encoders.items()}

    policy = restore(run)
    assert np.isfinite(policy.infer([observation(0)])).all()
    config.train.steps = 3
    loop.train(config, run, jax.devices()[:1])  # resumes

    other = pretrained.load(encoders["vision"])
    params = {**other.params, "norm/bias": other.params["norm/bias"] + 1}
    other = dataclasses.replace(other, params=params, hash=pretrained.weights_hash(other.architecture, params))
    pretrained.write(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"trained with a vision encoder of hash \w+; .*other is \w+: bring the same"):
        restore(run, encoders={"vision": str(tmp_path / "other")})
    config.model.vision.name = str(tmp_path / "other")
    with pytest.raises(ValueError, match="bring the same weights"):
        loop.train(config, run, jax.devices()[:1])


@pytest.mark.slow
def test_in_a_steady_state_text_is_neither_tokenised_nor_encoded(run, monkeypatch):
    policy, calls = restore(run, batch_sizes=(1, 2)), []
    tokenise, encode = ClipTokenizer.__call__, policy._encode_text
    monkeypatch.setattr(ClipTokenizer, "__call__", lambda *a: calls.append("tokenise") or tokenise(*a))
    monkeypatch.setattr(policy, "_encode_text", lambda *a: calls.append("encode") or encode(*a))
    for _ in range(3):
        policy.check(observation(0))
        policy.infer([observation(0)])
        policy.infer([observation(0), observation(2)])  # the same instruction
    assert calls == ["tokenise", "encode"]
    policy.infer([observation(1)])  # another
    assert calls == ["tokenise", "encode"] * 2


@pytest.mark.slow
def test_stored_features_train_as_images_do(config, tmp_path):
    """The same losses, up to the 8 bits in which features are stored, and the image encoder is not even on the device."""
    config.data.shift, config.data.brightness, config.data.contrast, config.train.learning_rate = 0, 0.0, 0.0, 1e-3
    for run in ("images", "features"):
        config.data.features = run == "features"
        if config.data.features:
            cache_features.cache_features(config, batch_size=5)
            assert not place_frozen_encoders(
                config, load_encoders(config), sharding.single_device_mesh(), ["open"]
            ).params
        loop.train(config, tmp_path / run, jax.devices()[:1])
    lines = [
        [json.loads(x) for x in (tmp_path / r / "metrics.jsonl").read_text().splitlines()]
        for r in ("images", "features")
    ]
    for a, b in zip(*lines):
        for key in ("train/loss", "train/centroid_error", "val/position_error_cm"):
            if key in a:
                np.testing.assert_allclose(a[key], b[key], rtol=0.05)


@pytest.mark.slow
def test_caching_goes_on_where_it_was_and_stale_features_are_refused(config, encoders, tmp_path, monkeypatch):
    config.data.shift, config.data.brightness, config.data.contrast = 0, 0.0, 0.0
    dataset = DataSet(config.data.path, config.env.cameras)
    images, asked = type(dataset.split("train")).images, []
    config.model.vision.pool = 2
    with monkeypatch.context() as patch:

        def stop_in_the_middle(self, row):
            if len(asked) == 30:
                raise KeyboardInterrupt
            asked.append(row)
            return images(self, row)

        patch.setattr(type(dataset.split("train")), "images", stop_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            cache_features.cache_features(config, batch_size=7)
        patch.setattr(type(dataset.split("train")), "images", lambda self, row: asked.append(row) or images(self, row))
        where = cache_features.cache_features(config, batch_size=7)
        rows = sum(len(dataset.split(s)) for s in ("train", "val"))
        assert len(asked) < rows + 3 * 7  # nothing twice, but for a batch broken off and the padding of two last ones
        asked.clear()
        assert cache_features.cache_features(config, batch_size=7) == where and not asked

    config.data.features = True
    batch = next(pipeline.batches(dataset, "train", dataset.action_space(config), config, train=True,
                                  encoder_hash=pretrained.load(encoders["vision"]).hash))  # fmt: skip
    assert batch.observation.images is None and batch.observation.features.shape == (8, 2, 5, 16)
    config.model.vision.image_size = 8
    with pytest.raises(
        FileNotFoundError, match=r"no stored features \w+-8px-pool2 .*there are: .*16px-pool2.*make them"
    ):
        loop.train(config, tmp_path / "run", jax.devices()[:1])


@pytest.mark.slow
def test_adapters_start_as_nothing(config):
    config.model.vision.lora = 2
    params = jax.jit(lambda: init_state(config).params)()
    assert not np.any(params["vision"]["tower"]["blocks"]["query"]["lora_up"])
