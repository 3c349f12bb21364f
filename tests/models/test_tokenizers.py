"""Instructions in, ids out: of bytes, where nothing is cut, and of CLIP's words, as transformers' tokenizer has them."""

import json
import logging

import numpy as np
import pytest
from ml_collections import ConfigDict

from drifting_vla_jax.models.tokenizers import ByteTokenizer, ClipTokenizer, make_tokenizer
from tests.models import reference
from tests.models.clip_texts import checksums, sentences
from tests.models.vocabulary import write_vocabulary


def test_bytes_are_shifted_by_one_and_zero_is_padding():
    assert ByteTokenizer(4)(["ab", "c"]).tolist() == [[98, 99, 0, 0], [100, 0, 0, 0]]
    assert ByteTokenizer(4)(["ab"]).dtype == np.int32


def test_case_and_surrounding_space_do_not_matter(tokenizers):
    for tokenizer in (ByteTokenizer(40), *tokenizers):
        assert tokenizer(["  Open the Drawer\n"]).tolist() == tokenizer(["open the drawer"]).tolist()


def test_bytes_are_counted_and_may_be_used_up():
    assert (ByteTokenizer(3)(["öl"]) > 0).all()
    with pytest.raises(ValueError, match=r"has 3 bytes, at most 2 fit \(config.data.max_tokens\): 'öl'"):
        ByteTokenizer(2)(["öl"])


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_instruction_is_refused(text, tokenizers):
    for tokenizer in (ByteTokenizer(8), *tokenizers):
        with pytest.raises(ValueError, match="instruction is empty"):
            tokenizer(["fine", text])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def tokenizers(folder, tmp_path_factory):
    """Ours, from vocab.json with merges.txt and from the tokenizer.json that transformers made of them."""
    other = tmp_path_factory.mktemp("tokenizer")
    (other / "tokenizer.json").write_bytes(reference.stored()["tokens/tokenizer.json"].tobytes())
    return ClipTokenizer(folder, 77), ClipTokenizer(other, 77)


def test_clip_ids_are_those_of_transformers(tokenizers):
    texts, theirs = list(sentences(1000)), reference.stored()["tokens/ids"]
    assert (theirs[:, 1] >= 76).sum() > 20  # that were too long
    for ours in tokenizers:
        wrong = [text for text, a, b in zip(texts, checksums(ours(texts)), theirs) if (a != b).any()]
        assert not wrong


def test_clip_by_hand(tokenizers, folder):
    """Start, the merged words, end; the rest is padded with the end."""
    ids = json.loads((folder / "vocab.json").read_text())
    for tokenizer in tokenizers:
        row = tokenizer(["the drawer"])[0]
        assert row.dtype == np.int32 and row.shape == (77,)
        names = list(ids)
        assert [names[i] for i in row[:4]] == ["<|startoftext|>", "the</w>", "drawer</w>", "<|endoftext|>"]
        assert (row[4:] == ids["<|endoftext|>"]).all()


def test_a_long_instruction_is_cut_before_its_end_and_the_log_says_so_once(folder, caplog):
    tokenizer = ClipTokenizer(folder, 6)
    with caplog.at_level(logging.WARNING):
        long, short = tokenizer(["the " * 9, "the"]).tolist()
        tokenizer(["the " * 9])
    assert long[1:5] == [short[1]] * 4 and long[5] == short[-1]
    assert [record.getMessage()[:35] for record in caplog.records] == ["instruction of 11 tokens cut to 6: "]


def test_the_configuration_names_the_tokenizer(folder):
    config = ConfigDict({"model": {"text": {"name": "bytes"}}, "data": {"max_tokens": 12}})
    assert isinstance(make_tokenizer(config), ByteTokenizer)
    config.model.text.name = str(folder)
    assert make_tokenizer(config)(["the"]).shape == (1, 12)


def test_a_folder_without_a_vocabulary_is_refused(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer.json, nor vocab.json and merges.txt"):
        ClipTokenizer(tmp_path, 77)
    (tmp_path / "vocab.json").write_text('{"the</w>": 0}')
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ValueError, match=r"no <\|startoftext\|> or no <\|endoftext\|>; it is not CLIP's"):
        ClipTokenizer(tmp_path, 77)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_truncated_vocabulary_is_named(name, tmp_path):
    file = write_vocabulary(tmp_path) / name
    file.write_text(file.read_text()[:-3])
    with pytest.raises(ValueError, match=f"{name} is damaged: .*; fetch it again"):
        ClipTokenizer(tmp_path, 77)
