"""Text that other people wrote: which strings are accepted, and how a string is shown on a terminal.

A lone surrogate has no UTF-8, a NUL ends a C string, an escape sequence rewrites the terminal: these are refused wherever text
comes in. Everything else is text: right-to-left scripts and their marks, joiners, emoji, Unicode's line separators.
"""

from __future__ import annotations

import unicodedata

LONGEST = 10_000  # characters of an instruction or a path
LONGEST_NAME = 200  # bytes of a name that becomes a file's name; file systems take 255, and we add a suffix


def problem(text: object, longest: int = LONGEST) -> str | None:
    """What makes a string unfit for a file, a terminal or the network; None: nothing.

    White space that is a control character (tab, new line, U+0085, ...) is accepted.
    """
    if not isinstance(text, str):
        return f"is no text but {type(text).__name__}"
    for at, letter in enumerate(text):
        kind = unicodedata.category(letter)
        if kind == "Cs":
            return f"has a lone surrogate, U+{ord(letter):04X}, at character {at}: it is no Unicode text"
        if kind == "Cc" and not letter.isspace():
            return f"has the control character U+{ord(letter):04X} at character {at}"
    if len(text) > longest:
        return f"has {len(text)} characters; at most {longest} are accepted"
    return None


def instruction_problem(text: object) -> str | None:
    """What makes a string unfit for an instruction; None: nothing. Marks and joiners alone say nothing."""
    found = problem(text)
    if found is None and all(unicodedata.category(letter) in _UNSEEN for letter in text):
        return "is empty"
    return found


def name_problem(text: object) -> str | None:
    """What makes a string unfit for the name of a task, a camera or a joint, which becomes the name of a file; None: nothing.

    A name has no white space at its ends, no line break and no mark that changes the direction of writing.
    """
    found = problem(text)
    if found:
        return found
    if not text.strip():
        return "is empty"
    if text != text.strip():
        return "begins or ends with white space"
    for at, letter in enumerate(text):
        if letter != " " and letter.isspace() and unicodedata.category(letter) != "Zs":
            return f"has a line break or tab, U+{ord(letter):04X}, at character {at}"
        if unicodedata.bidirectional(letter) in _DIRECTIONS or letter in _MARKS:
            return f"has the invisible mark U+{ord(letter):04X} at character {at}"
    size = len(text.encode())
    if size > LONGEST_NAME:
        return f"has {size} bytes; at most {LONGEST_NAME} fit into a file's name"
    return None


_UNSEEN = {"Zs", "Zl", "Zp", "Cc", "Cf"}
_DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_MARKS = "\u200e\u200f\u061c\ufeff"


def normalized(text: str) -> str:
    """The one spelling (NFC) of text that can be written with different code points."""
    return unicodedata.normalize("NFC", text)


def shown(text: object, longest: int = 8000) -> str:
    """One line that is safe to print: white space in single spaces, control characters and marks escaped."""
    line = " ".join(str(text).split())
    line = "".join(letter if _printable(letter) else f"\\u{ord(letter):04x}" for letter in line)
    return line if len(line) <= longest else f"{line[:longest]} ... ({len(line)} characters)"


def _printable(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cs") and unicodedata.bidirectional(letter) not in _DIRECTIONS
