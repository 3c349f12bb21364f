"""A made-up snapshot: plausible, the same every time, and every part of it can be replaced."""

import numpy as np
import pytest

from drifting_vla_jax.figures.snapshot import Snapshot
from tests.figures.fake import fake_snapshot


@pytest.fixture
def snapshot() -> Snapshot:
    return fake_snapshot()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
