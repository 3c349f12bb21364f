"""Fields of others' files: right ones in every form they come in, odd ones named with their file."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core import metadata
from drifting_vla_jax.core.metadata import Fields, MetadataError


def test_fields_that_are_right():
    found = Fields("f", {"fps": 30.0, "n": 3.0, "t": "a", "l": ["a"], "i": [1, 2], "m": {"k": 1}, "null": None})
    assert found.number("fps", above=0) == 30 and found.integer("n") == 3 and found.text("t") == "a"
    assert found.texts("l") == ("a",) and found.integers("i") == (1, 2) and found.mapping("m").integer("k") == 1
    assert found.number("null", 7) == 7 and found.text("absent", None) is None and "null" not in found
    assert found.mapping("absent", {}).values == {}


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        ("number", None, "f: x is null; expected a number above 0"),
        ("number", "30", "f: x is '30'; expected a number above 0"),
        ("number", True, "x is True; expected a number above 0"),
        ("number", float("nan"), "x is nan; expected"),
        ("number", 10**40, "x is 1000"),
        ("number", 0, "x is 0; expected a number above 0"),
        ("integer", 2.5, "x is 2.5; expected a whole number of at least 0"),
        ("integer", float("inf"), "x is inf; expected a whole number"),
        ("integer", -1, "x is -1; expected a whole number of at least 0"),
        ("text", ["a"], r"x is list \['a'\]; expected a text"),
        ("text", "\ud800", r"x is '\\ud800'; expected a text"),
        ("texts", "abc", "x is 'abc'; expected a list of texts"),
        ("texts", ["a", None], "expected a list of texts"),
        ("integers", [True], "expected a list of whole numbers"),
        ("mapping", [], r"x is list \[\]; expected an object"),
        ("mappings", [{}, 3], "expected a list of objects"),
    ],
)
def test_a_field_that_is_odd_is_named(read, value, message):
    more = {"above": 0} if read == "number" else {}
    with pytest.raises(MetadataError, match=message):
        getattr(Fields("f", {"x": value}), read)("x", **more)
    with pytest.raises(MetadataError, match="f: y is missing; expected"):
        getattr(Fields("f", {"x": value}), read)("y", **more)


def test_a_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "a.json"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for data, message in [
        (b"", "a.json is damaged: it is empty"),
        (b"[1]", r"a.json holds list \[1\]; expected an object"),
        ("{}".encode("utf-16"), "a.json is no text in UTF-8"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b"[" * 10**5, "a.json is damaged"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a.json is damaged"),
    ]:
        path.write_bytes(data)
        with pytest.raises(MetadataError, match=message):
            metadata.read_json(path)
    for name, message in [("loop", "is missing"), ("pipe", "is no file"), ("", "is no file"), ("none", "is missing")]:
        with pytest.raises(MetadataError, match=message + "; fetch it"):
            metadata.read_json(tmp_path / name, advice="fetch it")


def test_marks_and_ends_of_lines_of_other_systems(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": "\xe2\x80\xa8"}\r\n')
    assert [line.values["a"] for line in metadata.read_lines(path)] == [1, "\u2028"]
    path.write_bytes(b"{}\n{\n")
    with pytest.raises(ValueError, match="a.jsonl, line 2 is damaged"):
        metadata.read_lines(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(VALUES)
def test_whatever_a_field_holds_it_is_right_or_named(value):
    found = Fields("f", {"x": json.loads(json.dumps(value))})
    for read in ("number", "integer", "text", "texts", "integers", "mapping", "mappings"):
        try:
            getattr(found, read)("x")
        except MetadataError as error:
            assert str(error).startswith("f: x is ") and "\n" not in str(error)
            str(error).encode()


def test_a_key_that_a_file_lacks_is_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"overall": {"n": 1}, "tasks": []}')
    found = metadata.read_dict(path, {"overall": dict})
    assert found == {"overall": {"n": 1}, "tasks": []} and found.get("other") is None
    with pytest.raises(MetadataError, match="results.json: success_rate is missing"):
        found["overall"]["success_rate"]
    with pytest.raises(MetadataError, match=r"results.json: tasks is list \[\]; expected a dict; evaluate again"):
        metadata.read_dict(path, {"tasks": dict}, advice="evaluate again")
