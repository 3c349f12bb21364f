"""Instruction -> token ids.

bytes   0 is padding, 1 + byte otherwise: needs no vocabulary and no download; for the encoder trained from scratch
CLIP    byte-pair encoding of a CLIP checkpoint's own vocabulary, between a start and an end token, padded with the end
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from drifting_vla_jax.core import hub
from drifting_vla_jax.core.text import normalized

log = logging.getLogger(__name__)

VOCABULARY = 257  # of bytes
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = (  # what CLIP calls a word
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def make_tokenizer(config: ConfigDict) -> ByteTokenizer | ClipTokenizer:
    """The tokenizer of ``config.model.text.name``, to ``config.data.max_tokens`` tokens.

    Raises:
      HubError: the vocabulary is not here and cannot be fetched.
    """
    from drifting_vla_jax.models.encoders.registry import (
        is_pretrained,  # an exported policy needs tokenizers, not encoders
    )

    name, length = config.model.text.name, config.data.max_tokens
    if is_pretrained(config, "text"):
        return ClipTokenizer(hub.folder(name, TOKENIZER_FILES), length)
    return ByteTokenizer(length)


class ByteTokenizer:
    """UTF-8 bytes of the lower-cased text, in Unicode's one spelling (NFC)."""

    def __init__(self, length: int):
        self.length = length

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "n l"]:
        """Encodes n instructions as int32.

        Raises:
          ValueError: an instruction is empty or longer than ``length`` bytes; it is never cut silently.
        """
        tokens = np.zeros((len(texts), self.length), np.int32)
        for row, text in enumerate(texts):
            data = normalized(_said(text)).lower().encode()
            if len(data) > self.length:
                raise ValueError(
                    f"the instruction has {len(data)} bytes, at most {self.length} fit "
                    f"(config.data.max_tokens): {text[:60]!r}"
                )
            tokens[row, : len(data)] = np.frombuffer(data, np.uint8).astype(np.int32) + 1
        return tokens


class ClipTokenizer:
    """CLIP's byte-pair encoding; an instruction that is too long is cut as CLIP cuts it, and the log says so once."""

    def __init__(self, folder: Path, length: int):
        """Reads ``tokenizer.json``, or else ``vocab.json`` and ``merges.txt``.

        Raises:
          FileNotFoundError: the folder has neither.
          ValueError: a file is damaged or of another model.
        """
        from tokenizers import Tokenizer

        if (folder / "tokenizer.json").is_file():
            self._tokenizer = Tokenizer.from_str(json.dumps(hub.read_json(folder / "tokenizer.json")))
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            self._tokenizer = _from_vocabulary(folder)
        else:
            raise FileNotFoundError(f"{folder} has no tokenizer.json, nor vocab.json and merges.txt, of a CLIP model")
        self._end = self._tokenizer.token_to_id(END)
        if self._end is None:
            raise ValueError(f"the vocabulary in {folder} has no {END}; it is not CLIP's")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.length, self._cut = length, False

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "n l"]:
        """Encodes n instructions as int32: start, words, end, then ends as padding.

        Raises:
          ValueError: an instruction is empty.
        """
        tokens = np.full((len(texts), self.length), self._end, np.int32)
        for row, encoding in enumerate(self._tokenizer.encode_batch([_said(text) for text in texts])):
            ids = encoding.ids
            if len(ids) > self.length:
                if not self._cut:
                    log.warning("instruction of %d tokens cut to %d: %.60r", len(ids), self.length, texts[row])
                self._cut, ids = True, [*ids[: self.length - 1], self._end]
            tokens[row, : len(ids)] = ids
        return tokens


def _said(text: str) -> str:
    """Only what has no tokens is refused here: what else is no instruction is refused where it comes in."""
    text = text.strip()
    if not text:
        raise ValueError("the instruction is empty; say what the robot is to do")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the instruction has a lone surrogate at character {error.start}: {text[:60]!r}") from error
    return text


def _from_vocabulary(folder: Path):
    """CLIP's tokenizer from its two original files."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary, merges = hub.read_json(folder / "vocab.json"), (folder / "merges.txt").read_text("utf-8").split("\n")
    if not {START, END} <= vocabulary.keys():
        raise ValueError(f"the vocabulary in {folder} has no {START} or no {END}; it is not CLIP's")
    pairs = [tuple(line.split(" ")) for line in merges if line and not line.startswith("#version")]
    for pair in pairs:
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise ValueError(f"{folder / 'merges.txt'} is damaged: {' '.join(pair)!r} is no merge; fetch it again")
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.add_special_tokens([START, END])
    start, end = ((token, vocabulary[token]) for token in (START, END))
    tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=False)
    return tokenizer


def write_alphabet(folder: Path, end: int) -> None:
    """Writes a vocabulary of bytes without merges, for an encoder whose weights are random and know no words.

    ``end`` is the id of the end token; the start token is the one before it.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    (folder / "vocab.json").write_text(json.dumps(ids | {START: end - 1, END: end}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
