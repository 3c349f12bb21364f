"""Bytes in, ids out; nothing is cut silently."""

import numpy as np
import pytest

from drifting_vla_jax.data.text import tokenize


def test_ids_are_bytes_shifted_by_one_and_zero_is_padding():
    assert tokenize(["ab", "c"], 4).tolist() == [[98, 99, 0, 0], [100, 0, 0, 0]]
    assert tokenize(["ab"], 4).dtype == np.int32


def test_case_and_surrounding_space_do_not_matter():
    assert tokenize(["  Open the Drawer\n"], 20).tolist() == tokenize(["open the drawer"], 20).tolist()


def test_length_is_counted_in_bytes_and_may_be_used_up():
    assert (tokenize(["öl"], 3) > 0).all()
    with pytest.raises(ValueError, match=r"has 3 bytes, at most 2 fit \(config.data.max_tokens\): 'öl'"):
        tokenize(["öl"], 2)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_instruction_is_refused(text):
    with pytest.raises(ValueError, match="instruction is empty"):
        tokenize(["fine", text], 8)
