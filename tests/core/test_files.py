"""Files that are whole or not there, and fingerprints: content alone decides."""

import os
import shutil

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core.files import file_fingerprint, fingerprint, write_atomically

QUICKLY = settings(max_examples=60, deadline=None, derandomize=True)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "about.json"
    for content in ("öffne\n", b"\0\r\n", "later"):
        write_atomically(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [p.name for p in tmp_path.iterdir()] == ["about.json"]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "about.json"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_fingerprint_is_the_contents():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = fingerprint("a", values, b"x", {"k": 1, "l": [2]})
    assert same == fingerprint("a", values.T.copy().T, b"x", {"l": [2], "k": 1})
    others = [
        fingerprint("a", values.reshape(3, 2), b"x", {"k": 1, "l": [2]}),
        fingerprint("a", values.view(np.int32), b"x", {"k": 1, "l": [2]}),
        fingerprint("a", values, "x", {"k": 1, "l": [2]}),
        fingerprint(values, "a", b"x", {"k": 1, "l": [2]}),
        fingerprint("a", values, b"x", {"k": 1, "l": [2]}, ""),
    ]
    assert len({same, *others}) == 6
    assert fingerprint(np.ones(())) != fingerprint(np.ones((), np.float32))
    assert fingerprint(values.astype(ml_dtypes.bfloat16)) != fingerprint(values.astype(np.float16))


@QUICKLY
@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_parts_never_run_into_each_other(a, b):
    assert (fingerprint(*a) == fingerprint(*b)) == (a == b)


def test_a_files_fingerprint_follows_its_content_and_not_its_name_or_time(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    before = file_fingerprint(a)
    shutil.move(a, b)
    assert file_fingerprint(b) == before
    os.utime(b, (1, 1))
    assert file_fingerprint(b) == before
    b.write_bytes(b"two")
    assert file_fingerprint(b) != before
    with pytest.raises(FileNotFoundError):
        file_fingerprint(a)
