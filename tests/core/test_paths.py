"""Paths as people write them: expanded, or one line that says why not."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core import paths


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("DATA", "/data//sets/")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", "/home/ann"),
        ("~/runs/a b", "/home/ann/runs/a b"),
        ("$HOME/runs", "/home/ann/runs"),
        ("${DATA}/kitchen/", "/data/sets/kitchen"),
        ("$DATA$DATA", "/data/sets/data/sets"),
        ("runs//mine///", "runs/mine"),
        ("//data", "/data"),
        (".", "."),
        ("./../x", "../x"),
        ("/", "/"),
        ("./~/x", "./~/x"),
        ("file:///tmp/a%20b", "/tmp/a b"),
        ("file://localhost/tmp/x/", "/tmp/x"),
        ("file:/tmp/x", "/tmp/x"),
        ("runs/2026-01-01T10:00:00", "runs/2026-01-01T10:00:00"),
        ("a$", "a$"),
        ("donn\u00e9es/\u9875", "donn\u00e9es/\u9875"),
        (Path("x") / "y", "x/y"),
        ("openai/clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
    ],
)
def test_expanded(text, path):
    assert paths.user_path(text) == paths.user_path(text, hub=True) == path
    assert paths.user_path(path) == path  # what is kept in a run means the same later


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("$UNSET/x", "environment variable UNSET is not set"),
        ("x/${EMPTY}/y", "environment variable EMPTY is empty"),
        ("${DATA:-/x}/y", r"expected \$NAME or"),
        ("${DATA", r"expected \$NAME or"),
        ("~nobody-of-this-name/x", "no user 'nobody-of-this-name'"),
        ("gs://bucket/x", "in a bucket"),
        ("GS://bucket/x", "in a bucket"),
        (Path("gs://bucket/x"), "in a bucket"),
        ("s3://bucket", "in a bucket"),
        ("https://host/x.zip", "address of https://"),
        ("foo+bar://x", r"address of foo\+bar://"),
        ("file://host/x", "names no file of this machine"),
        ("ann@host:/data", "on another machine"),
        ("runs/x\r", "Windows line ends"),
        ("a\0b", "in no path"),
        ("file:///a%00b", "zero byte"),
        ('"runs/x"', "quotation marks"),
        (" runs", "begins or ends with a space"),
        ("x" * 256, "too long"),
        ("x/" * 2100, "too long"),
        ("a\ud800", "no name of a file"),
    ],
)
def test_refused(text, message):
    with pytest.raises(paths.PathError, match=message):
        paths.user_path(text)


@pytest.mark.parametrize(
    "text",
    ["hf://facebook/dinov2-small", "https://huggingface.co/facebook/dinov2-small/", "facebook/dinov2-small"],
)
def test_a_name_on_the_hub(text):
    assert paths.user_path(text, hub=True) == "facebook/dinov2-small"
    if ":" in text:
        with pytest.raises(paths.PathError, match="hub|https"):
            paths.user_path(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=40), st.text("~$/{}:a.\0 @fgs3hi", max_size=20)), st.booleans())
def test_any_text_is_a_path_or_one_line(text, hub):
    try:
        path = paths.user_path(text, hub)
    except paths.PathError as error:
        assert len(str(error).splitlines()) == 1
        return
    os.path.lexists(path)  # the system takes it
    assert path and (path in ("/", ".") or not path.endswith("/"))


def test_what_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for good in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep"):
        assert paths.writable(good) == good
    assert paths.writable("new/page.html", folder=False) == Path("new/page.html")
    assert paths.writable("file", folder=False) == Path("file")
    for bad, message in {
        "file": "is a file; expected a folder",
        "file/deep/er": "file is a file, so .* cannot be made",
        "broken": "is a link to .*gone, which is not there",
        "broken/deep": "is a link to .*gone, which is not there",
        "loop": "is a link to .*loop, which is not there",
    }.items():
        with pytest.raises(paths.PathError, match=message):
            paths.writable(tmp_path / bad)
    with pytest.raises(paths.PathError, match="is a folder; expected a file"):
        paths.writable(tmp_path, folder=False)
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda place, _: str(place) != str(tmp_path))
    with pytest.raises(paths.PathError, match="read-only or belongs to somebody else"):
        paths.writable(tmp_path / "new" / "deep")
