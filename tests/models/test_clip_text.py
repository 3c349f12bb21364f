"""CLIP's text tower against transformers' in torch: every layer, the feature at the end token, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from drifting_vla_jax.models import pretrained
from drifting_vla_jax.models.clip_text import ClipText, ClipTextArchitecture
from tests.models import reference

TOLERANCE = 5e-5
BASE = {"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2048}
LARGE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
ARCHITECTURE = ClipTextArchitecture(24, 2, 2, 48, vocabulary=60, length=12, end=59)


def instructions(architecture, length, words=(3, 1, 40)):
    """Start, so many words, end, then ends as padding."""
    rng = np.random.default_rng(0)
    tokens = np.full((len(words), length), architecture.end, np.int32)
    for row, count in enumerate(words):
        count = min(count, length - 2)
        tokens[row, : 1 + count] = [architecture.end - 1, *rng.integers(0, architecture.end - 1, count)]
    return tokens


def module(architecture=ARCHITECTURE):
    return ClipText(architecture, lora=0, remat="none", dtype=jnp.float32)


def parity(model, encoder, tokens):
    """The largest relative error of any layer, of the words and of the summary."""
    theirs = model(torch.tensor(tokens, dtype=torch.long), output_hidden_states=True)
    text, layers = reference.run(module(encoder.architecture), encoder, tokens)
    assert len(layers) == 1 + encoder.architecture.depth
    pairs = (
        (layers, list(theirs.hidden_states)),
        (text.words, theirs.last_hidden_state),
        (text.summary, theirs.pooler_output),
    )
    return max(reference.worst(ours, other) for ours, other in pairs)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_equals_the_reference(activation, tmp_path):
    model = reference.clip_text(**reference.SHRUNK_TEXT, hidden_act=activation)
    encoder = pretrained.load(reference.saved(model, tmp_path))
    for length in (77, 16):
        assert parity(model, encoder, instructions(encoder.architecture, length)) < TOLERANCE


def test_openais_files_say_that_the_end_is_2_and_mean_the_last_id(tmp_path):
    """transformers then takes the largest id of each row; newer files give the id itself."""
    old = reference.clip_text(**{**reference.SHRUNK_TEXT, "eos_token_id": 2})
    encoder = pretrained.load(reference.saved(old, tmp_path))
    assert encoder.architecture.end == 59
    assert parity(old, encoder, instructions(encoder.architecture, 16)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "end"),
    [("openai/clip-vit-base-patch32", BASE, 2), ("openai/clip-vit-large-patch14", LARGE, 49407)],
)
def test_equals_the_reference_at_true_size(name, size, end, tmp_path):
    model = reference.clip_text(**size, eos_token_id=end)
    encoder = pretrained.load(reference.saved(model, tmp_path))
    assert encoder.architecture == pretrained.KNOWN[name]
    for length in (77, 24):
        error = parity(model, encoder, instructions(encoder.architecture, length))
        print(f"{name}, {length} tokens: {error:.2e}")
        assert error < TOLERANCE


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
