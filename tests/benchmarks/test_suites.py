"""Every suite does its work on a network of a few thousand parameters; training in its steady state compiles nothing."""

import asyncio

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.benchmarks import data, infer, network, serve, train
from drifting_vla_jax.benchmarks.compilations import watched
from drifting_vla_jax.benchmarks.ddpm import ddpm_sample
from drifting_vla_jax.benchmarks.peer import Peers
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.state import create_state
from drifting_vla_jax.train.step import compile_train_step
from tests.small import CAMERAS, small_config, small_encoders, with_encoders

NOBODY = Peers({})


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """The small network with frozen encoders."""
    return with_encoders(small_config(), small_encoders(tmp_path_factory.mktemp("encoders")))


@pytest.mark.slow
def test_training_compiles_once(config):
    """A step, its input and the loop's own arithmetic: whatever there is to compile is compiled in the first step."""
    dataset, mesh = DataSet(config.data.path, CAMERAS), sharding.make_mesh(config, jax.devices()[:1])
    where = sharding.batch_sharding(mesh)
    batches = pipeline.batches(dataset, "train", dataset.action_space(config), config, train=True, sharding=where)
    state, step = create_state(config, mesh), compile_train_step(config, mesh)
    with watched() as compilations:
        for number in range(5):
            with jax.transfer_guard("disallow"):
                state, info = step(state, next(batches), train.FrozenInputs({}))
            if number == 0:
                jax.block_until_ready(info)
                first = len(compilations)
    assert first > 0 and len(compilations) == first and int(state.step) == 5


@pytest.mark.slow
def test_one_action_is_timed_with_its_parts(frozen):
    contests, calls = infer.one_action(frozen, NOBODY, rounds=1, few=1)
    names = [row.name for row in contests[0].rows]
    assert names == ["ours, fp32", "ours, a new instruction", "of which the image encoder",
                     "of which everything after the encoders"]  # fmt: skip
    assert len(contests[0].absent) == 3 and "not given" in contests[0].absent[0].reason
    assert calls[1][:2] == ["ours, fp32", "4"]


@pytest.mark.slow
def test_heads_sample_in_one_ten_and_a_hundred_evaluations(frozen):
    found = infer.heads(frozen, rounds=1)
    one, ten, hundred = (row.flops for row in found.rows)
    assert 5 < ten / one < 10 and hundred / ten == pytest.approx(10, rel=0.2)  # the context is made ready once


def test_ddpm_arrives_where_the_network_points():
    """A network that knows that all of x is noise, and how much of it there is, is led to zero, exactly."""
    noise = jax.random.normal(jax.random.key(1), (1, 2, 4, 3))
    bar = jnp.cumprod(1 - jnp.linspace(1e-4, 0.02, 100))

    def all_of_it(x, time):
        return x / jnp.sqrt(1 - bar)[jnp.round(100 * time[0, 0]).astype(int)]

    np.testing.assert_allclose(ddpm_sample(all_of_it, noise, 100), 0, atol=1e-3)


@pytest.mark.slow
def test_a_step_from_stored_features_needs_no_encoder(frozen):
    found = train.full_precision(frozen, NOBODY, rounds=1)
    cost = {row.name: row.flops for row in found.rows}
    assert cost[train.CACHED] < cost[train.MANY] and cost[train.CACHED_ONE] < cost[train.ONE] < cost[train.MANY]
    assert found[train.MANY].samples == train.BATCH and found.absent[0].name == "original, fp32"


def test_our_batches_stand_beside_decoding_alone(config, monkeypatch):
    monkeypatch.setattr(data, "OURS", 2)
    monkeypatch.setattr(data, "BATCH", 8)
    monkeypatch.setattr(data, "CAMERAS", CAMERAS)
    dataset = DataSet(config.data.path, CAMERAS)
    assert data.decoding(dataset, config).run() > 0
    assert data.ours(dataset, config, "ours").run() > 0
    rows, grown = data.memory(dataset, config, 20)
    assert rows[0] == ["batches", *(str(2 * i) for i in range(1, 11))] and 0.5 < grown < 1.5


def test_clients_are_answered(frozen):
    policy = network.policy_of(frozen, network.params_of(frozen), (1, 2))
    with serve.PolicyServer(policy, port=0, batch_deadline_ms=2.0) as server:
        seconds, total, part = asyncio.run(serve.crowd(server.port, frozen, clients=2, requests=6))
    assert len(total) == 6 and (part < total).all() and 0 < seconds < 60
