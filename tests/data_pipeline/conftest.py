"""The RLBench episodes, unpacked once."""

from pathlib import Path

import pytest

from tests import peract_fixture


@pytest.fixture(scope="session")
def demos(tmp_path_factory) -> Path:
    """A folder with train/<task>/...; tests that change it copy what they need."""
    return peract_fixture.unpack(tmp_path_factory.mktemp("demos"))
