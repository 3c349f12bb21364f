"""The server in this process, on loopback: latency and throughput with one client, two, ... sixty-four.

Every client is an honest one: it sends an observation, waits for the chunk, and sends the next. Clients and server share
the machine, so throughput is what is left when both have taken their part.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time

import numpy as np
from ml_collections import ConfigDict
from websockets.asyncio.client import connect

from drifting_vla_jax.benchmarks import network
from drifting_vla_jax.benchmarks.options import Options
from drifting_vla_jax.benchmarks.peer import Peers
from drifting_vla_jax.benchmarks.results import Report, milliseconds
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire import protocol

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
REQUESTS = 400  # of all clients together, in a round
BATCHES = (1, 2, 4, 8, 16)


def run(options: Options, peers: Peers) -> Report:
    """One table; peers serve nothing that could stand beside it."""
    config, report = network.at_precision(options.config, options.config.model.dtype), Report()
    logging.getLogger("drifting_vla_jax.serve").setLevel(logging.WARNING)
    policy = network.policy_of(config, network.params_of(config), BATCHES)
    before, rounds = os.getloadavg()[0], options.rounds or 3
    with PolicyServer(policy, port=0, batch_deadline_ms=config.serve.batch_deadline_ms) as server:
        asyncio.run(crowd(server.port, config, 1, REQUESTS // 4))
        found = {n: [asyncio.run(crowd(server.port, config, n, REQUESTS)) for _ in range(rounds)] for n in CLIENTS}
    heads = ["clients", "answers/s", "min - max", "p50 ms", "p95 ms", "in the policy, p50 ms"]
    rows = [heads, *(_row(clients, rounds) for clients, rounds in found.items())]
    title = f"{config.name} behind its websocket, batches of {BATCHES}; load {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    report.figures[title] = rows
    return report


async def crowd(port: int, config: ConfigDict, clients: int, requests: int) -> tuple[float, np.ndarray, np.ndarray]:
    """``requests`` answered to that many clients: seconds in all, of every answer, and of the policy's part of it."""
    each = max(1, requests // clients)

    async def client(number: int) -> list[tuple[float, float]]:
        request, seen = protocol.pack(network.observation_of(config, number)), []
        async with connect(f"ws://127.0.0.1:{port}", max_size=None, compression=None) as socket:
            await socket.recv()
            gate.release()
            await go.wait()
            for _ in range(each):
                start = time.perf_counter()
                await socket.send(request)
                answer = protocol.unpack(await socket.recv())
                seen.append((time.perf_counter() - start, answer["server_timing"]["infer_ms"] / 1000))
        return seen

    gate, go = asyncio.Semaphore(0), asyncio.Event()
    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    for _ in range(clients):
        await gate.acquire()  # everybody is connected
    start = time.perf_counter()
    go.set()
    seen = [pair for part in await asyncio.gather(*tasks) for pair in part]
    total, policy = np.array(seen).T
    return time.perf_counter() - start, total, policy


def _row(clients: int, rounds: list) -> list[str]:
    rates = [len(total) / seconds for seconds, total, _ in rounds]
    total, policy = (np.concatenate([r[i] for r in rounds]) for i in (1, 2))
    quantiles = [np.percentile(total, 50), np.percentile(total, 95), np.percentile(policy, 50)]
    return [
        str(clients),
        f"{np.median(rates):.0f}",
        f"{min(rates):.0f} - {max(rates):.0f}",
        *map(milliseconds, quantiles),
    ]
