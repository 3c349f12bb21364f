"""A small vocabulary in the form of CLIP's: 256 bytes, each also as the end of a word, and merges learnt from a text."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

SAYINGS = """pick up the red block and put it into the drawer; open the drawer, close the door, press the button.
push the green cube to the left of the blue ball while the lamp isn't on. don't touch the window's handle, they're hot.
slide the lid over the box, turn the dial by 45 degrees, then reach for the second mug in 3 seconds."""


def byte_symbols() -> list[str]:
    """A printable character for each byte, as GPT-2 has them: itself if it prints, else one from 256 upwards."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def write_vocabulary(folder: Path, merges: int = 300) -> Path:
    """Writes vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols, words = byte_symbols(), Counter(re.findall(r"\w+|[^\w\s]+", SAYINGS))
    words = {(*(symbols[byte] for byte in word.encode()[:-1]), symbols[word.encode()[-1]] + "</w>"): count
             for word, count in words.items()}  # fmt: skip
    learnt = []
    while len(learnt) < merges:
        pairs = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        learnt.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        words = {_merged(word, learnt[-1]): count for word, count in words.items()}
    ordered = sorted(symbols)
    tokens = [*ordered, *(symbol + "</w>" for symbol in ordered), *("".join(pair) for pair in learnt)]
    tokens = list(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in learnt)]) + "\n")
    return folder


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out, i = [], 0
    while i < len(word):
        together = word[i : i + 2] == pair
        out.append("".join(pair) if together else word[i])
        i += 2 if together else 1
    return tuple(out)
