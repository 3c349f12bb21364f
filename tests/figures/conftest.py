"""Snapshots for the tests of figures, see ``fake.py``."""

import pytest

from drifting_vla_jax.figures.inputs import FigureInputs
from tests.figures.fake import fake_snapshot


@pytest.fixture
def snapshot() -> FigureInputs:
    return fake_snapshot()


@pytest.fixture
def numbers():
    """numbers(text) -> the numbers that are written in it."""
    import re

    return lambda text: [float(word) for word in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]
