"""Twenty thousand malformed messages from several clients, while a good one keeps getting right answers in time."""

import pickle
import random
import threading
import time

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from drifting_vla_jax.wire import protocol
from drifting_vla_jax.wire.client import PolicyClient
from tests.serve.test_server import StubPolicy, observation, serving

CLIENTS, MESSAGES = 4, 20_000


class Trap:
    """Runs if anybody unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def array(dtype, shape, data: bytes) -> dict:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


def malformed(rng: random.Random) -> bytes:
    """One of many kinds of nonsense."""
    good, packed = observation(), protocol.pack(observation())
    kind = rng.randrange(9)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1:
        return packed[: rng.randrange(len(packed))]
    if kind == 2:  # one byte of the frame of the message, not of its pixels
        place = rng.choice([*range(30), *range(len(packed) - 60, len(packed))])
        return packed[:place] + bytes([packed[place] ^ (1 + rng.randrange(255))]) + packed[place + 1 :]
    if kind == 3:  # a declared length of gigabytes: str32, bin32, array32, map32
        return rng.choice([b"\xdb", b"\xc6", b"\xdd", b"\xdf"]) + b"\xff\xff\xff\xf0" + rng.randbytes(20)
    if kind == 4:
        bad = rng.choice([array("|O", [1], b"12345678"), array("<f4", [-1], b""), array("<f4", [2**62, 2**62], b"")])
        return msgpack.packb({**_plain(good), "state": bad})
    if kind == 5:
        return pickle.dumps(Trap())
    if kind == 6:
        return msgpack.packb({**_plain(good), "state": msgpack.ExtType(rng.randrange(128), pickle.dumps(Trap()))})
    if kind == 7:  # as deep as a stack is not
        return b"\x91" * rng.randrange(600, 5000) + b"\x01"
    return protocol.pack(
        good | {rng.choice(["state", "prompt", "images", "seed", "more"]): rng.choice([1, "x", [], {}])}
    )


def _plain(good: dict) -> dict:
    image, state = good["images"]["top"], good["state"]
    return {
        "images": {"top": array("|u1", list(image.shape), image.tobytes())},
        "state": array("<f4", list(state.shape), state.tobytes()),
        "prompt": "go",
    }


def memory() -> int:
    """Resident bytes of this process, which is the server's."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def pester(port: int, seed: int, count: int, ended: list) -> None:
    """Sends nonsense and takes what comes back; a closed connection is opened again."""
    rng, refused, raw = random.Random(seed), 0, None
    for _ in range(count):
        if raw is None:
            raw = connect(f"ws://127.0.0.1:{port}", compression=None)
            raw.recv()
        try:
            raw.send(malformed(rng) or b"\x00")
            said = raw.recv(timeout=20)
            refused += isinstance(said, str) and said.startswith("bad request: ") and "\n" not in said
        except ConnectionClosed:
            raw = None
    if raw:
        raw.close()
    ended.append(refused)


@pytest.mark.slow
def test_nonsense_neither_crashes_nor_leaks_nor_delays_the_good():
    policy, ended, times, marks = StubPolicy(), [], [], []
    with serving(policy) as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as good:
        pesterers = [
            threading.Thread(target=pester, args=(server.port, seed, MESSAGES // CLIENTS, ended))
            for seed in range(CLIENTS)
        ]
        for thread in pesterers:
            thread.start()
        while any(thread.is_alive() for thread in pesterers):
            value, began = float(len(times) % 1000), time.perf_counter()
            assert good.infer(observation(value))["actions"][0, 0] == value
            times.append(time.perf_counter() - began)
            marks.append(memory())
        counts = server.counts
    assert len(ended) == CLIENTS  # no pesterer broke off
    assert sum(ended) > 0.95 * MESSAGES  # a flipped byte may leave a valid message
    assert counts["refused"] >= sum(ended) and "failed" not in counts
    warm, last = np.median(marks[len(marks) // 4 : len(marks) // 2]), np.median(marks[-len(marks) // 8 :])
    p99 = 1000 * np.percentile(times, 99)
    print(
        f"{counts}, good client: {len(times)} answers, p99 {p99:.1f} ms, memory {warm / 2**20:.0f} -> {last / 2**20:.0f} MiB"
    )
    assert last < 1.05 * warm
    assert p99 < 250
