"""Sixty-four robots at once: batches make it faster than one by one, and nobody gets another's answer."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect

from drifting_vla_jax.wire import protocol

CLIENTS, REQUESTS = 64, 10
REPOSITORY = Path(__file__).parents[2]
SERVER = """
import logging, sys
import jax, numpy as np
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.policy.restore import RestoredPolicy, make_policy
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.train.checkpoint import Assets
from tests.small import random_params, small_config

logging.basicConfig(level=logging.INFO, force=True)  # absl has made itself the handler
config = small_config()
mean = np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 0.5], (4, 1))  # a wrist that hardly turns, as in data
space = ActionNormalizer("relative", mean, np.full((4, 10), 0.1), np.arange(4.0), np.ones(4))
names, scratch = ("x", "y", "z", "gripper"), {"vision": "scratch", "text": "scratch"}
assets = Assets(config, space, ("go",), 20.0, names, scratch)
policy = make_policy(RestoredPolicy(assets, jax.device_put(random_params(config)), 1), tuple(map(int, sys.argv[1:])))
PolicyServer(policy, port=0, batch_deadline_ms=2.0).serve_forever()
"""


@pytest.fixture(scope="module")
def ports():
    """Two servers of the same small network, as processes: one answers requests singly, one in batches of up to 64."""
    env = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(REPOSITORY)}  # programs as fast as users have them
    command = [sys.executable, "-c", SERVER]
    servers = [
        subprocess.Popen([*command, *sizes], env=env, stderr=subprocess.PIPE, text=True)
        for sizes in (["1"], ["1", "64"])
    ]
    try:
        yield [
            int(next(line for line in server.stderr if "serving on" in line).rsplit(":", 1)[1]) for server in servers
        ]
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            assert server.wait(20) == 0


async def robot(port: int, number: int, answers: dict, start: asyncio.Event) -> None:
    """Asks one request after another, each with a state and a seed of its own."""
    async with connect(f"ws://127.0.0.1:{port}", compression=None) as socket:
        example = protocol.example_observation(protocol.unpack(await socket.recv()))
        await start.wait()
        for n in range(REQUESTS):
            seed = number * REQUESTS + n
            state = np.full_like(example["state"], seed / 1000)
            await socket.send(protocol.pack(example | {"seed": seed, "state": state}))
            answers[seed] = protocol.unpack(await socket.recv())["actions"]


async def all_at_once(port: int) -> tuple[float, np.ndarray]:
    """Requests per second of all robots together, and their answers by seed."""
    answers, start = {}, asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(robot(port, number, answers, start))
        await asyncio.sleep(0.5)
        began = time.perf_counter()
        start.set()
    seconds = time.perf_counter() - began
    assert len(answers) == CLIENTS * REQUESTS
    return CLIENTS * REQUESTS / seconds, np.stack([answers[seed] for seed in sorted(answers)])


@pytest.mark.slow
def test_batches_are_three_times_as_fast_and_give_the_same_answers(ports):
    rates, answers = [], []
    for port in (*ports, *ports):
        rate, answer = asyncio.run(all_at_once(port))
        rates.append(rate)
        answers.append(answer)
    print(f"requests per second singly {rates[0::2]}, in batches {rates[1::2]}")
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-5)
    assert len(np.unique(answers[0][:, 0, 0])) == CLIENTS * REQUESTS  # every answer is another one
    assert max(rates[1::2]) >= 3 * max(rates[0::2])
