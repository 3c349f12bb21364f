"""A second process finds what the first has compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from pathlib import Path
import jax
from drifting_vla_jax.policy import compile_cache
compile_cache.keep(Path(sys.argv[1]))
found = []
jax.monitoring.register_event_listener(lambda event, **_: found.append(event))
jax.jit(lambda x: 2 * x + 1)(1.0)
print(sum(event.endswith("cache_hits") for event in found))
"""


@pytest.mark.slow
def test_programs_are_kept_and_found_again(tmp_path):
    def start() -> int:
        command = [sys.executable, "-c", CODE, str(tmp_path / "cache")]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)

    assert start() == 0
    assert list((tmp_path / "cache").iterdir())
    assert start() > 0
