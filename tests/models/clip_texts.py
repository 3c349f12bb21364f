"""Texts that a tokenizer may stumble on, and what is kept of the ids that transformers gives them."""

import random
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from tests.models.vocabulary import SAYINGS

ODD = """naïve Ærø ÉCOLE e\u0301cole 日本語 한국어 क्षि ﬁ ß İstanbul Σς ﷺ \U0001d4d0 a\u0301\u0327 \u0301 ½ x² ٣ don\u2019t
🤖 👩\u200d🔧 🏳️\u200d🌈 🤖🤖 's ''s !'re WE'LL It's 3.14 2024 0x1F a_b -- ... ?! </w> [UNK] <|pad|> \ufeff \x00 \u200b
<|endoftext|> <|startoftext|>x <|ENDOFTEXT|>'s <|ENDOFTEXT|>🤖"""
GAPS = ("", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028")
STRANGE = ((0x20, 0x7F), (0x20, 0x2FFF), (0x1F300, 0x1FAFF), (0xE000, 0x10FFFF))


def sentences(count: int) -> Iterator[str]:
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


def checksums(ids: Sequence[Sequence[int]]) -> np.ndarray:
    """[texts, 2]: of each row of ids a checksum, and how many there are before the padding."""
    rows = np.asarray(ids, np.int32)
    lengths = (rows[:, ::-1] != rows[:, -1:]).argmax(1)
    return np.array([(zlib.crc32(row.tobytes()), 77 - length) for row, length in zip(rows, lengths)], np.uint32)
