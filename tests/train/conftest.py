"""What costs seconds to compile is compiled once: the steps and the fresh state of the small configuration."""

import jax
import numpy as np
import pytest

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.train import loop, sharding
from drifting_vla_jax.train.state import abstract_state, create_state, fake_batch
from drifting_vla_jax.train.step import compile_train_step
from drifting_vla_jax.train.validation import compile_eval_step
from tests.small import small_config


@pytest.fixture(scope="session")
def small():
    """The small configuration without a data set; nobody changes it."""
    return small_config().lock()


@pytest.fixture(scope="session")
def one_device(small):
    return sharding.make_mesh(small, jax.devices()[:1])


@pytest.fixture(scope="session")
def step(small, one_device):
    """The train step on one device; it takes its state's memory."""
    return compile_train_step(small, one_device)


@pytest.fixture(scope="session")
def host_state(small, one_device):
    """The fresh state of ``config.seed`` as numpy."""
    return jax.device_get(create_state(small, one_device))


@pytest.fixture(scope="session")
def place(small):
    """place(state on the host, mesh) -> a state of its own on the mesh, as the train step wants it."""

    def place(host, mesh, config=small):
        return jax.tree.map(lambda x, s: jax.device_put(np.copy(x), s.sharding), host, abstract_state(config, mesh))

    return place


@pytest.fixture(scope="session")
def batches(small):
    """batches(mesh) -> five different batches of eight, on the mesh."""

    def batches(mesh):
        on = sharding.batch_sharding(mesh)
        return [pipeline.to_device(fake_batch(small, 8, prompts=8, seed=i), on) for i in range(5)]

    return batches


@pytest.fixture(scope="session")
def eval_step(small, one_device):
    return compile_eval_step(small, one_device)


@pytest.fixture
def train(config, monkeypatch, small, one_device, step, eval_step, host_state, place):
    """train(workdir): the loop on one device, with what is compiled here for the same configuration."""
    monkeypatch.setattr(loop, "compile_train_step", lambda config, mesh: step)
    monkeypatch.setattr(loop, "compile_eval_step", lambda config, mesh: eval_step)
    monkeypatch.setattr(loop, "create_state", lambda config, mesh, encoders: place(host_state, mesh))

    def train(workdir):
        for part in ("model", "objective", "action"):
            assert config[part] == small[part]
        loop.train(config, workdir, one_device.devices.flatten())

    return train
