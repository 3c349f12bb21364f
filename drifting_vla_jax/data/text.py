"""Instruction -> token ids, on bytes: 0 is padding, 1 + byte otherwise. Needs no vocabulary and no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

VOCABULARY = 257


def tokenize(texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """Encodes n instructions as int32 [n, max_tokens], UTF-8 bytes shifted by one, zero-padded.

    Raises:
      ValueError: an instruction is empty or longer than ``max_tokens`` bytes; it is never cut silently.
    """
    tokens = np.zeros((len(texts), max_tokens), np.int32)
    for row, text in enumerate(texts):
        data = text.strip().lower().encode()
        if not data:
            raise ValueError("the instruction is empty; say what the robot is to do")
        if len(data) > max_tokens:
            raise ValueError(
                f"the instruction has {len(data)} bytes, at most {max_tokens} fit "
                f"(config.data.max_tokens): {text[:60]!r}"
            )
        tokens[row, : len(data)] = np.frombuffer(data, np.uint8).astype(np.int32) + 1
    return tokens
