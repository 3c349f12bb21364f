"""Which text is accepted, and how text is shown on one line."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core import text

WORLD = (
    "öffne die Tür",
    "取って",
    "افتح الباب\u200f",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "👩\u200d🔧",
    "a\u2028b",
    "a\x85b",
    "a\tb\r\nc",
    "e\u0301cole",
)
NONSENSE = {
    "a\x00b": r"control character U\+0000 at character 1",
    "\x1b[2J": r"control character U\+001B at character 0",
    "a\ud800": r"lone surrogate, U\+D800, at character 1",
    "a" * 10_001: "has 10001 characters; at most 10000",
}
ANY = st.text(st.characters(), max_size=20) | st.text("ab\x00\x1b\x85\u2028\u202e\u200b\ud800\U0001f916 \n", max_size=8)


@pytest.mark.parametrize("said", WORLD)
def test_text_of_the_world_is_text(said):
    assert text.problem(said) is None and text.instruction_problem(said) is None


@pytest.mark.parametrize("said", NONSENSE)
def test_what_is_no_text_is_named(said):
    for problem in (text.problem, text.instruction_problem, text.name_problem):
        assert re.search(NONSENSE[said], problem(said))


@pytest.mark.parametrize("said", ["", " \n", "\u200b", "\u200e\u2028", "\ufeff"])
def test_an_instruction_that_cannot_be_seen_is_empty(said):
    assert text.instruction_problem(said) == "is empty"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a ", "begins or ends with white space"),
        ("a\nb", "line break or tab, U+000A"),
        ("a\u2028b", "line break or tab, U+2028"),
        ("a\u202eb", "invisible mark U+202E"),
        ("取" * 67, "has 201 bytes; at most 200"),
        (3, "is no text but int"),
    ],
)
def test_names_are_stricter(name, problem):
    assert problem in text.name_problem(name)
    assert text.name_problem("pick-place v2, تناول") is None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ANY)
def test_what_is_shown_is_one_line_that_can_be_printed(said):
    line = text.shown(said)
    line.encode()
    assert line.splitlines() in ([], [line]) and "\x1b" not in line
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in line)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ANY)
def test_what_is_accepted_is_utf_8_and_names_make_files(said):
    if text.problem(said) is None:
        assert said.encode().decode() == said and "\x00" not in said
    if text.name_problem(said) is None:
        assert 0 < len(f"{said}-v0-s1.npz.partial".encode()) < 256 and said.splitlines() == [said]
