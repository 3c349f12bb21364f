"""Shared by all tests: eight virtual CPU devices, shapes checked in signatures, one small data set and one small policy."""

import atexit
import os
import shutil
import signal
import tempfile

# All but the first make XLA's CPU compiler six times as fast and its programs a little slower: tests mostly compile.
FLAGS = (
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("WANDB_MODE", "offline")
# What one process has compiled no other compiles again: neither the workers of a run nor the programs that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="drifting-vla-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# A shell that starts the tests in the background lets them ignore Ctrl-C, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent.parent))  # configs/ is not installed

# Where shapes are: not the loop, the sinks, TrainState or Bank, whose fields hold shapes and shardings as often as arrays.
OBJECTIVES = (
    *(f"drifting.{name}" for name in ("affinity", "blockwise", "grouping", "guidance", "loss", "objective")),
    "base",
    "flow_matching",
)
CHECKED = (
    *(f"objectives.{name}" for name in OBJECTIVES),
    "models",
    "data.normalization",
    "train.step",
    "policy.sampling",
    "train.optimizer",
)
install_import_hook([f"drifting_vla_jax.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture(scope="session")
def dataset_path(tmp_path_factory) -> Path:
    """Demonstrations of the dummy simulator's tasks as a TFDS data set (see ``small.py``)."""
    from tests.small import write_dataset

    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def single_path(tmp_path_factory) -> Path:
    """A data set of one episode, to train on, and none to validate on."""
    from tests.small import episode, write_episodes

    return write_episodes(tmp_path_factory.mktemp("single"), [episode(0)], held_out=0)


@pytest.fixture(scope="session")
def set_paths(tmp_path_factory) -> dict[str, Path]:
    """Three data sets that differ, to be mixed (see ``small.py``)."""
    from tests.small import write_sets

    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def mixed_config(set_paths):
    """The smallest configuration, on a mixture of those three: half, three and two tenths."""
    from tests.small import MIXED_TASKS, small_config

    config = small_config()
    config.env.tasks = MIXED_TASKS
    config.data.mixture.paths = tuple(map(str, set_paths.values()))
    config.data.mixture.weights = (5.0, 3.0, 2.0)
    return config


@pytest.fixture(scope="session")
def demos(tmp_path_factory) -> Path:
    """Six RLBench episodes, train/<task>/... (see ``peract_fixture.py``); tests that change them copy what they need."""
    from tests.peract_fixture import unpack

    return unpack(tmp_path_factory.mktemp("demos"))


@pytest.fixture
def config(dataset_path):
    """The smallest configuration that has every part, on the small data set."""
    from tests.small import small_config

    config = small_config()
    config.data.path = str(dataset_path)
    return config


@pytest.fixture
def programs(tmp_path):
    """programs(name=shell script, ...) -> a PATH on which these come first."""

    def programs(**scripts: str) -> str:
        for name, script in scripts.items():
            (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
            (tmp_path / name).chmod(0o755)
        return f"{tmp_path}:{os.environ['PATH']}"

    return programs
