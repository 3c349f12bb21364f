"""The whole network: what it computes once, what it must not see, what it must."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dit_b2, dit_l2, quickstart
from drifting_vla_jax.config.io import validate
from drifting_vla_jax.models.cross_attention import Fusion
from drifting_vla_jax.models.dit import DiT
from drifting_vla_jax.models.encoders.byte_text import ByteText
from drifting_vla_jax.models.encoders.vit import ViT, halving_convolution
from drifting_vla_jax.models.layers import normalise
from drifting_vla_jax.models.vla import DriftingVLA
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.train.partition import is_frozen_pretrained, split
from drifting_vla_jax.train.state import fake_batch, init_params
from drifting_vla_jax.train.step import objective_loss, sample_chunks
from tests.small import equations, random_params, small_config

CONFIG = small_config()
B, H, Z, TIME = 2, CONFIG.action.horizon, CONFIG.model.noise_dim, jnp.zeros((2, 1))


def encode(params, observation, config=CONFIG):
    context = DriftingVLA(config).apply({"params": params}, observation, method="encode")
    return context.tokens, context.mask, context.condition


@jax.jit
def answer(params, observation, noise):
    return DriftingVLA(CONFIG).apply({"params": params}, observation, noise, TIME)


def test_the_stems_convolution_is_xlas_own_and_so_is_its_gradient():
    x, kernel = jax.random.normal(jax.random.key(0), (2, 12, 8, 5)), jax.random.normal(jax.random.key(1), (3, 3, 5, 7))

    def own(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def gradients(function):
        return jax.grad(lambda *a: jnp.sum(jnp.sin(function(*a))), (0, 1))(x, kernel)

    np.testing.assert_array_equal(halving_convolution(x, kernel), own(x, kernel))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients(halving_convolution), gradients(own)
    )


@pytest.fixture(scope="module")
def params():
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def batch():
    """Two observations, each asked something else, the second half of each instruction padding."""
    batch = jax.tree.map(jnp.asarray, fake_batch(CONFIG, B, prompts=2))
    tokens = batch.observation.tokens.at[:, 16:].set(0)
    return batch.replace(observation=batch.observation.replace(tokens=tokens, prompt=jnp.array([0, 1])))


@pytest.fixture(scope="module")
def observation(batch):
    return batch.observation


@pytest.fixture(scope="module")
def noise():
    return jnp.asarray(np.random.default_rng(0).standard_normal((B, 3, H, Z), np.float32))


@pytest.fixture(scope="module")
def chunks(params, observation, noise):
    return answer(params, observation, noise)


def test_shapes(params, observation, chunks):
    tokens, mask, condition = jax.eval_shape(encode, params, observation)
    n = 2 * (16 // 8) ** 2 + CONFIG.data.max_tokens + 1  # two views of four patches, the instruction, proprioception
    assert tokens.shape == (B, n, 16) and mask.shape == (B, n) and condition.shape == (B, 16)
    assert chunks.shape == (B, 3, H, 10) and chunks.dtype == jnp.float32


def test_a_view_that_is_missing_is_not_looked_at(params, observation, noise, chunks):
    """Neither its tokens nor its readout: what is on it changes nothing. Where none is missing nothing changes at all."""
    all_there = observation.replace(seen=jnp.ones((B, 2), bool))
    np.testing.assert_allclose(answer(params, all_there, noise), chunks, rtol=1e-5, atol=1e-6)
    one = observation.replace(seen=jnp.array([[True, False], [True, True]]))
    black = one.replace(images=one.images.at[:, 1].set(0))
    first, second = answer(params, one, noise), answer(params, black, noise)
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(first[1] - second[1]).max() > 1e-4  # of the second observation it is there
    assert np.abs(first[0] - chunks[0]).max() > 1e-4


def test_folded_samples_are_those_of_one_by_one(params, observation, noise, chunks):
    for i in range(3):
        alone = answer(params, observation, noise[:, i : i + 1])
        np.testing.assert_allclose(chunks[:, i], alone[:, 0], rtol=1e-4, atol=1e-5)


def convolutions(function, *args):
    """Output shapes of the image encoder's convolutions in a traced function."""
    traced = jax.make_jaxpr(function)(*args)
    return [e.outvars[0].aval.shape for e in equations(traced) if e.primitive.name == "conv_general_dilated"]


def test_the_observation_is_encoded_once_whatever_g_is(params, batch, observation):
    """More samples cost what ``generate`` costs, and not one operation of the encoders."""

    def flops(function, g):
        noise = jnp.zeros((B, g, H, Z))
        return jax.jit(function).lower(params, noise).cost_analysis()["flops"]

    context = jax.eval_shape(encode, params, observation)

    def generate(params, noise):
        from drifting_vla_jax.models.vla import Context

        known = Context(*(jnp.ones(x.shape, x.dtype) for x in context))
        return DriftingVLA(CONFIG).apply({"params": params}, known, noise, TIME, method="generate")

    def act(params, noise):
        return sample_chunks(params, observation, noise, CONFIG)

    more = flops(generate, 12) - flops(generate, 4)
    assert flops(act, 12) - flops(act, 4) == pytest.approx(more, rel=1e-3)
    assert flops(act, 4) - flops(generate, 4) > more / 8  # encoding is not free: it would have shown

    def loss(params, samples):
        config = small_config()
        config.objective.drifting.samples = samples
        return objective_loss(params, batch, jax.random.key(0), config, make_objective(config))[0]

    once = convolutions(encode, params, observation)
    assert once and once == convolutions(lambda p: loss(p, 2), params) == convolutions(lambda p: loss(p, 8), params)


def test_padding_of_the_instruction_is_not_seen(params, observation, noise, chunks):
    changed = jax.tree.map(jnp.copy, params)
    changed["text"]["embed"]["embedding"] = changed["text"]["embed"]["embedding"].at[0].set(100.0)
    np.testing.assert_allclose(answer(changed, observation, noise), chunks, rtol=1e-5, atol=1e-6)


def differs(a, b):
    """Per observation."""
    return (np.abs(a - b) > 1e-4).any(axis=(1, 2, 3)).tolist()


def test_each_part_of_the_observation_matters_to_its_own_answer(params, observation, noise, chunks):
    """Changing it for the second observation changes the second answer and leaves the first."""

    def change(**parts):
        return differs(answer(params, observation.replace(**parts), noise), chunks)

    assert change(prompt=jnp.array([0, 0])) == [False, True]
    assert change(tokens=observation.tokens.at[1, 3].set(7)) == [False, True]
    assert change(state=observation.state.at[1, 0].add(1.0)) == [False, True]
    assert change(images=observation.images.at[1].set(0)) == [False, True]
    assert change(images=observation.images.at[1].set(observation.images[1, ::-1])) == [False, True]  # views swapped
    assert differs(answer(params, observation, noise.at[1].add(1.0)), chunks) == [False, True]


def test_time_matters(params, observation, noise):
    """Flow matching tells the network where on the path it is."""

    def at(time):
        return jax.make_jaxpr(lambda t: DriftingVLA(CONFIG).apply({"params": params}, observation, noise, t))(time)

    assert any(e.primitive.name == "sin" for e in equations(at(TIME)))
    assert at(jnp.zeros((B, 3))).out_avals == at(TIME).out_avals


def test_modulation_of_the_network_starts_at_zero():
    @jax.jit
    def modulations(key):
        leaves = jax.tree_util.tree_leaves_with_path(init_params(CONFIG, key))
        return [leaf for path, leaf in leaves if "modulation" in jax.tree_util.keystr(path)]

    leaves = modulations(jax.random.key(0))
    assert len(leaves) == 4  # a kernel and a bias, of the one block and of the final norm
    assert not any(np.any(leaf) for leaf in leaves)


def test_bfloat16_computes_in_it_and_keeps_float32_outside(params, observation, noise, chunks):
    config = small_config()
    config.model.dtype = "bfloat16"
    abstract = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    assert {x.dtype for x in jax.tree.leaves(abstract)} == {jnp.dtype("float32")}
    function = jax.jit(lambda p, o, n: DriftingVLA(config).apply({"params": p}, o, n, TIME))
    products = [e for e in equations(jax.make_jaxpr(function)(params, observation, noise)) if "dot" in e.primitive.name]
    assert sum(e.invars[0].aval.dtype == jnp.bfloat16 for e in products) > len(products) / 2
    out = function(params, observation, noise)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, chunks, atol=0.1 * np.abs(chunks).max())


@pytest.mark.slow
def test_at_the_start_every_layer_of_the_assembled_dit_hands_its_tokens_through(observation, noise):
    """adaLN-Zero: modulation is zero, whatever the observation says, so the DiT's output is its input, normalised."""

    @jax.jit
    def watched(params):
        seen = {}

        def watch(next_method, args, options, context):
            out = next_method(*args, **options)
            if isinstance(context.module, DiT) and context.method_name == "__call__":
                seen["in"], seen["condition"], seen["out"] = args[0], args[1], out
            return out

        with nn.intercept_methods(watch):
            DriftingVLA(CONFIG).apply({"params": params}, observation, noise, TIME)
        return seen

    seen = watched(init_params(CONFIG, jax.random.key(0)))
    assert np.abs(seen["condition"]).max() > 0.1 and np.abs(seen["in"]).max() > 0.1
    np.testing.assert_allclose(seen["out"], normalise(seen["in"]), rtol=1e-6)


@pytest.mark.parametrize("negatives", [0, 2])
def test_one_answer_is_one_pass_guidance_included(params, observation, noise, negatives):
    """Counted: the encoders see every image once, the network runs once."""
    config, calls = small_config(), []
    guidance = config.objective.drifting.guidance
    guidance.negatives, guidance.alpha = negatives, 3.0

    def count(next_method, args, options, context):
        if context.method_name == "__call__":
            calls.append((type(context.module), len(args[0])))
        return next_method(*args, **options)

    with nn.intercept_methods(count):
        jax.eval_shape(lambda: sample_chunks(params, observation, noise, config))
    assert [call for call in calls if call[0] is ViT] == [(ViT, B * len(config.env.cameras))]
    assert [call for call in calls if call[0] in (ByteText, Fusion, DiT)] == [(ByteText, 2), (Fusion, B), (DiT, B)]


def test_earlier_images_are_more_views(observation, noise):
    config = small_config()
    config.model.history = 2
    seen = jax.tree.map(jnp.asarray, fake_batch(config, B, prompts=2).observation)
    assert seen.images.shape == (B, 6, 16, 16, 3)
    context = jax.eval_shape(lambda: encode(init_params(config, jax.random.key(0)), seen, config))
    assert context[0].shape[1] == 6 * 4 + config.data.max_tokens + 1


def test_without_proprioception_the_state_reaches_nothing(noise):
    config = small_config()
    config.model.proprioception = False
    params, seen = random_params(config), jax.tree.map(jnp.asarray, fake_batch(config, B, prompts=2).observation)
    traced = jax.make_jaxpr(lambda s: encode(params, seen.replace(state=s), config))(seen.state)
    assert not [e for e in equations(traced) if traced.jaxpr.invars[0] in e.invars]


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_stacked_layers_are_the_same_network(batch, noise, remat):
    """Two layers of each kind, their parameters stacked: the same chunks and gradients, whatever is kept for them."""
    config = small_config()
    config.model.fusion.depth = config.model.dit.depth = 2
    apart = random_params(config)
    stacked = dict(apart)
    for part in ("fusion", "dit"):
        layers = [apart[part][f"block_{i}"] for i in range(2)]
        rest = {k: v for k, v in apart[part].items() if not k.startswith("block_")}
        stacked[part] = rest | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *layers)}

    def loss(params):
        return jnp.sum(jnp.square(DriftingVLA(config).apply({"params": params}, batch.observation, noise, TIME)))

    expected = jax.jit(jax.value_and_grad(loss))(apart)
    config.model.scan_layers, config.model.remat = True, remat
    found = jax.jit(jax.value_and_grad(loss))(stacked)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for i in range(2):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4),
            found[1]["dit"]["blocks"],
            expected[1]["dit"][f"block_{i}"],
        )


def test_parameters_of_the_quickstart():
    """A change here changes every number in the README: make it on purpose."""
    shapes = jax.eval_shape(lambda: init_params(quickstart.get_config(), jax.random.key(0)))
    count = {name: sum(x.size for x in jax.tree.leaves(shapes[name])) for name in ("vision", "text", "fusion", "dit")}
    assert count == {"vision": 260_256, "text": 57_632, "fusion": 41_184, "dit": 140_224}
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 544_050


@pytest.mark.parametrize(
    ("preset", "total", "trained"), [(dit_b2, 574_385_000, 146_957_960), (dit_l2, 913_507_000, 486_080_520)]
)
def test_presets_have_the_sizes_they_promise(preset, total, trained):
    """Within 2% of the PyTorch original's parameters: DINOv2-L and CLIP-L text frozen, the rest trained."""
    config = preset.get_config()
    validate(config)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    ours, borrowed = split(params, lambda path: not is_frozen_pretrained(path, config))
    count = {part: sum(x.size for x in jax.tree.leaves(tree)) for part, tree in params.items()}
    assert (
        count["vision"] == 304_367_616 and count["text"] == 123_060_480
    )  # facebook/dinov2-large without its mask token
    assert set(borrowed) == {"vision", "text"}
    np.testing.assert_allclose(sum(count.values()), total, rtol=0.02)
    np.testing.assert_allclose(sum(x.size for x in jax.tree.leaves(ours)), trained, rtol=0.02)
