"""The server as clients see it: warm before it listens, in order, honest about time, and hard to disturb."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import websockets
from websockets.sync.client import connect

from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire import protocol
from drifting_vla_jax.wire.client import PolicyClient, PolicyServerError, ServerUnreachableError


class StubPolicy:
    """Answers chunks full of the observation's first state; records the batches and the thread they ran in."""

    batch_sizes = (1, 4)
    metadata = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
        "cameras": ["top"],
        "image_size": 8,
        "state_dim": 4,
        "horizon": 3,
        "action_dim": 8,
        "prompts": ["go"],
    }

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def check(self, observation):
        protocol.check_observation(observation, self.metadata)

    def infer(self, observations):
        self.batches.append(len(observations))
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        return np.stack([np.full((3, 8), o["state"][0], np.float32) for o in observations])


def observation(value: float = 0.0) -> dict:
    return protocol.example_observation(StubPolicy.metadata) | {"state": np.full(4, value, np.float32)}


def serving(policy=None, **changes) -> PolicyServer:
    return PolicyServer(policy or StubPolicy(), **{"port": 0, "batch_deadline_ms": 2.0, **changes})


def health(port: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    return response.status, response.read()


def test_metadata_answers_and_timing():
    policy = StubPolicy(seconds=0.03)
    with serving(policy) as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
        assert client.metadata == StubPolicy.metadata
        began = time.perf_counter()
        answer = client.infer(observation(2.5))
        elapsed = 1000 * (time.perf_counter() - began)
    assert answer["actions"].dtype == np.float32
    np.testing.assert_array_equal(answer["actions"], np.full((3, 8), 2.5))
    timing = answer["server_timing"]
    assert 30 <= timing["infer_ms"] <= timing["total_ms"] <= elapsed
    assert timing["queue_ms"] + timing["infer_ms"] <= timing["total_ms"]


def test_every_size_is_warm_before_it_listens_and_all_inference_is_in_one_thread():
    policy = StubPolicy()
    with serving(policy) as server:
        assert policy.batches == [1, 4]
        with PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
            client.infer(observation())
    assert policy.batches == [1, 4, 1]
    assert len(policy.threads) == 1 and threading.current_thread().name not in policy.threads


def test_health_is_ok_only_when_warm():
    policy = StubPolicy()
    warming, go = threading.Event(), threading.Event()

    def infer(observations):
        warming.set()
        assert go.wait(5)
        return np.zeros((len(observations), 3, 8), np.float32)

    policy.infer = infer
    server = serving(policy)
    thread = threading.Thread(target=server.start)
    thread.start()
    assert warming.wait(5)
    with pytest.raises(ConnectionRefusedError):
        health(server.port)
    go.set()
    thread.join(5)
    assert health(server.port) == (200, b"OK")
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        health(server.port)


def test_requests_of_many_clients_share_batches_and_are_not_crossed():
    policy = StubPolicy(seconds=0.02)

    def ask(port, value, answers):
        with PolicyClient(f"ws://127.0.0.1:{port}") as client:
            answers[value] = [client.infer(observation(value + n / 10))["actions"][0, 0] for n in range(5)]

    with serving(policy, batch_deadline_ms=50) as server:
        policy.batches.clear()
        answers: dict[int, list] = {}
        threads = [threading.Thread(target=ask, args=(server.port, value, answers)) for value in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert server.counts["answered"] == 40
    for value in range(8):
        np.testing.assert_allclose(answers[value], value + np.arange(5) / 10, rtol=1e-6)
    assert sum(policy.batches) == 40 and max(policy.batches) == 4
    assert len(policy.batches) <= 20  # 40 requests; alone they would be 40


def test_requests_sent_ahead_are_answered_in_order():
    with serving() as server, connect(f"ws://127.0.0.1:{server.port}", compression=None) as raw:
        raw.recv()
        for n in range(20):
            raw.send(protocol.pack(observation(n)) if n % 5 else b"nonsense")
        for n in range(20):
            answer = raw.recv(timeout=5)
            if n % 5:
                assert protocol.unpack(answer)["actions"][0, 0] == n
            else:
                assert answer.startswith("bad request: ")


def test_a_bad_request_gets_one_line_and_disturbs_nobody():
    with serving() as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
        with connect(f"ws://127.0.0.1:{server.port}") as raw:
            raw.recv()
            bad = [protocol.pack(observation() | {"state": np.zeros(4)}), b"\xc1", "text", protocol.pack({"x": 1})]
            said = []
            for message in bad:
                raw.send(message)
                said.append(raw.recv(timeout=5))
                assert client.infer(observation(6))["actions"][0, 0] == 6
        assert said[0] == "bad request: state is float64 [4]; expected float32 [4]"
        assert "not valid msgpack" in said[1] and "text frame" in said[2] and "images, state, prompt missing" in said[3]
        assert server.counts == {"answered": 4, "refused": 4}


def test_a_failing_policy_is_said_to_fail_and_the_server_goes_on(caplog):
    policy = StubPolicy()
    with serving(policy) as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
        good, policy.infer = policy.infer, None
        server._batcher._infer = lambda observations: 1 / 0
        with pytest.raises(PolicyServerError, match="inference failed: ZeroDivisionError: division by zero"):
            client.infer(observation())
        server._batcher._infer = lambda observations: np.full((1, 3, 8), np.nan)
        with pytest.raises(PolicyServerError, match="not finite"):
            client.infer(observation())
        server._batcher._infer = good
        assert client.infer(observation(1))["actions"][0, 0] == 1
        assert server.counts == {"failed": 2, "answered": 1}
    assert "inference failed on a batch of 1" in caplog.text


def test_a_message_beyond_the_limit_closes_only_its_own_connection():
    with serving() as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
        with connect(f"ws://127.0.0.1:{server.port}", compression=None) as raw:
            raw.recv()
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                raw.send(bytes(protocol.MAX_MESSAGE_BYTES + 1))
                raw.recv(timeout=10)
        assert caught.value.rcvd.code == 1009
        assert client.infer(observation(3))["actions"][0, 0] == 3


def test_the_key_is_asked_for():
    with serving(api_key="secret") as server:
        uri = f"ws://127.0.0.1:{server.port}"
        assert health(server.port) == (200, b"OK")
        for key in (None, "wrong", "secret2"):
            with pytest.raises(ServerUnreachableError, match="refuses the API key"):
                PolicyClient(uri, api_key=key, wait=0)
        with PolicyClient(uri, api_key="secret") as client:
            assert client.infer(observation(1))["actions"][0, 0] == 1
        assert server.counts["unauthorized"] == 3
    with serving(api_key="") as server:
        PolicyClient(f"ws://127.0.0.1:{server.port}", wait=0).close()


def test_a_port_in_use_is_one_clear_line_before_anything_is_compiled():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        policy = StubPolicy()
        with pytest.raises(OSError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            serving(policy, port=port).start()
    assert "\n" not in str(caught.value) and policy.batches == []


def test_a_port_lost_while_compiling_is_the_same_clear_line():
    policy = StubPolicy()
    server = serving(policy)
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def infer(observations):
        if len(observations) == 4:
            thief.bind(("127.0.0.1", server.port))
            thief.listen()
        return np.zeros((len(observations), 3, 8), np.float32)

    policy.infer = infer
    with thief, pytest.raises(OSError, match="is in use"):
        server.start()


def test_an_unknown_host_and_a_policy_of_another_shape_are_refused():
    with pytest.raises(OSError, match=r"host 'no\.such\.host\.invalid' has no address"):
        serving(host="no.such.host.invalid").start()
    policy = StubPolicy()
    policy.infer = lambda observations: np.zeros((len(observations), 2, 8))
    with pytest.raises(ValueError, match=r"answers \(1, 2, 8\) to 1 observations; expected \(1, 3, 8\)"):
        serving(policy).start()


def test_stopping_answers_what_is_in_flight_and_closes_the_idle():
    policy = StubPolicy()
    server = serving(policy)
    server.start()
    policy.seconds = 0.3
    uri = f"ws://127.0.0.1:{server.port}"
    with connect(uri) as busy, connect(uri) as idle:
        busy.recv(), idle.recv()
        busy.send(protocol.pack(observation(9)))
        time.sleep(0.1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(websockets.ConnectionClosed) as caught:
            idle.recv(timeout=0.15)
        assert caught.value.rcvd.code == 1001
        assert protocol.unpack(busy.recv(timeout=5))["actions"][0, 0] == 9
        with pytest.raises(websockets.ConnectionClosed):
            busy.recv(timeout=5)
    stopping.join(5)
    assert not stopping.is_alive()


PROCESS = """
import sys, logging
sys.path.insert(0, {tests!r})
from test_server import StubPolicy, serving
logging.basicConfig(level=logging.INFO)
server = serving(StubPolicy(seconds=0.15), port={port})
server.serve_forever()
print("after", dict(server.counts))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_a_signal_drains_and_exits_0(number):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    code = PROCESS.format(tests=os.path.dirname(__file__), port=port)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        with PolicyClient(f"ws://127.0.0.1:{port}", wait=20) as client:
            answers = []
            thread = threading.Thread(target=lambda: answers.append(client.infer(observation(5))))
            thread.start()
            time.sleep(0.05)
            process.send_signal(number)
            thread.join(5)
            assert answers[0]["actions"][0, 0] == 5
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.strip() == "after {'answered': 1}" and "serving on ws://127.0.0.1" in err


def test_the_event_loop_stays_free_during_inference():
    policy = StubPolicy()
    with serving(policy) as server, PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
        policy.seconds = 0.4
        thread = threading.Thread(target=client.infer, args=(observation(),))
        thread.start()
        time.sleep(0.05)
        began = time.perf_counter()
        assert health(server.port) == (200, b"OK")
        assert time.perf_counter() - began < 0.2
        thread.join()


def test_stopping_leaves_no_thread():
    server = serving()
    server.start()
    PolicyClient(f"ws://127.0.0.1:{server.port}").close()
    server.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith(("policy-server", "inference"))]
