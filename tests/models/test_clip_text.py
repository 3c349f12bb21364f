"""CLIP's text tower against stored outputs of transformers: every layer, the feature at the end token, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.models.encoders.clip_text import ClipText, ClipTextArchitecture
from drifting_vla_jax.models.pretrained import load as pretrained
from tests.models import reference

ARCHITECTURE = ClipTextArchitecture(24, 2, 2, 48, vocabulary=60, length=12, end=59)


def module(architecture=ARCHITECTURE):
    return ClipText(architecture, lora=0, remat="none", dtype=jnp.float32)


def parity(case, architecture, params, length):
    """The largest relative error of any layer, of the words and of the summary."""
    text, layers = reference.run(module(architecture), params, reference.inputs(case, length))
    assert len(layers) == 1 + architecture.depth
    ours = reference.summary([*layers, text.words, text.summary])
    error = reference.worst(ours, reference.stored()[reference.key(case, length)])
    print(f"{reference.key(case, length)} tokens: {error:.2e}")
    return error


@pytest.mark.parametrize("case", ["clip", "clip-quick_gelu"])
def test_equals_the_reference(case, tmp_path):
    encoder = pretrained.load(reference.save(case, tmp_path))
    for length in reference.TEXTS[case]:
        assert parity(case, encoder.architecture, encoder.params, length) < reference.TOLERANCE


def test_openais_files_say_that_the_end_is_2_and_mean_the_last_id(tmp_path):
    """transformers then takes the largest id of each row; newer files give the id itself."""
    encoder = pretrained.load(reference.save("clip-end_is_2", tmp_path))
    assert encoder.architecture.end == 59
    assert parity("clip-end_is_2", encoder.architecture, encoder.params, 16) < reference.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in reference.TEXTS if "/" in case])
def test_equals_the_reference_at_true_size(case):
    architecture, params = reference.encoder(case)
    assert architecture == pretrained.KNOWN[case]
    for length in reference.TEXTS[case]:
        assert parity(case, architecture, params, length) < reference.TOLERANCE


def test_the_two_base_models_share_their_text_tower():
    assert pretrained.KNOWN["openai/clip-vit-base-patch16"] == pretrained.KNOWN["openai/clip-vit-base-patch32"]


def test_the_mask_ends_with_the_end_and_padding_changes_nothing_before_it():
    tokens = jnp.array([[58, 7, 59, 59, 59, 59], [58, 7, 8, 9, 10, 59]], jnp.int32)
    variables = jax.jit(module().init)(jax.random.key(0), tokens)
    apply = jax.jit(module().apply)
    text = apply(variables, tokens)
    assert text.mask.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    np.testing.assert_allclose(text.summary, jnp.stack([text.words[0, 2], text.words[1, 5]]), rtol=1e-5, atol=1e-6)
    short = apply(variables, tokens[:1, :3])
    np.testing.assert_allclose(short.words[0], text.words[0, :3], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(short.summary, text.summary[:1], rtol=1e-5, atol=1e-6)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(ValueError, match="13 tokens for a text encoder of 12 positions"):
        jax.eval_shape(module().init, jax.random.key(0), jnp.zeros((1, 13), jnp.int32))
