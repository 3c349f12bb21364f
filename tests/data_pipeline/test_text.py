"""Instructions in, ids out: of bytes, where nothing is cut, and of CLIP's words, as transformers' tokenizer has them."""

import json
import logging
import random

import numpy as np
import pytest
from ml_collections import ConfigDict

from drifting_vla_jax.data.text import ByteTokenizer, ClipTokenizer, make_tokenizer
from tests.data_pipeline.vocabulary import SAYINGS, write_vocabulary

ODD = """naïve Ærø ÉCOLE e\u0301cole 日本語 한국어 क्षि ﬁ ß İstanbul Σς ﷺ \U0001d4d0 a\u0301\u0327 \u0301 ½ x² ٣ don\u2019t
🤖 👩\u200d🔧 🏳️\u200d🌈 🤖🤖 's ''s !'re WE'LL It's 3.14 2024 0x1F a_b -- ... ?! </w> [UNK] <|pad|> \ufeff \x00 \u200b
<|endoftext|> <|startoftext|>x <|ENDOFTEXT|>'s <|ENDOFTEXT|>🤖"""
GAPS = ("", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028")
STRANGE = ((0x20, 0x7F), (0x20, 0x2FFF), (0x1F300, 0x1FAFF), (0xE000, 0x10FFFF))


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
def reference(folder):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def tokenizers(folder, reference, tmp_path_factory):
    """Ours, from vocab.json with merges.txt and from tokenizer.json."""
    other = tmp_path_factory.mktemp("tokenizer")
    reference.save_pretrained(other)
    assert (other / "tokenizer.json").is_file() and not (other / "vocab.json").exists()
    return ClipTokenizer(folder, 77), ClipTokenizer(other, 77)


def sentences(count: int):
    """Sayings, odd words and characters from all over Unicode, at times run together, at times too long."""
    rng = random.Random(0)
    words = [*SAYINGS.split(), *ODD.split()]
    for _ in range(count):
        length = rng.randint(1, rng.choice([4, 12, 60]))
        if rng.random() < 0.3:
            text = "".join(chr(rng.randint(*rng.choice(STRANGE))) for _ in range(length))
        else:
            text = "".join(rng.choice(words) + rng.choice(GAPS) for _ in range(length))
        yield text if text.strip() else "push"


def test_clip_ids_are_those_of_transformers(tokenizers, reference):
    texts = list(sentences(1000))
    theirs = reference(texts, max_length=77, truncation=True, padding="max_length")["input_ids"]
    assert sum(row[-1] != row[-2] for row in theirs) > 20  # that were too long
    for ours in tokenizers:
        wrong = [text for text, a, b in zip(texts, ours(texts).tolist(), theirs) if a != b]
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
