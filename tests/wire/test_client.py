"""The client against a server that says what a test tells it to: every way of going wrong has a type and one line."""

import contextlib
import http
import socket
import struct
import threading
import time

import numpy as np
import pytest
from websockets.sync.server import serve

from drifting_vla_jax.wire import client as wire_client
from drifting_vla_jax.wire import protocol

METADATA = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
    "cameras": ["top"],
    "image_size": 4,
    "state_dim": 3,
    "horizon": 2,
    "action_dim": 8,
    "prompts": ["go"],
}
ANSWER = protocol.pack({"actions": np.ones((2, 8), np.float32), "server_timing": {"infer_ms": 1.0}})
OBSERVATION = protocol.example_observation(METADATA)


@contextlib.contextmanager
def fake_server(*answers, greeting=None, process_request=None, port=0):
    """Greets, then answers the n-th request with the n-th answer; after the last one it hangs up."""

    def handle(connection):
        connection.send(protocol.pack(METADATA) if greeting is None else greeting)
        for answer in answers:
            connection.recv()
            if callable(answer):
                answer = answer()
            connection.send(answer)

    with serve(handle, "127.0.0.1", port, process_request=process_request) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_metadata_and_actions_arrive():
    with fake_server(ANSWER) as uri, wire_client.PolicyClient(uri) as client:
        assert client.metadata == METADATA
        answer = client.infer(OBSERVATION)
        np.testing.assert_array_equal(answer["actions"], np.ones((2, 8)))
        assert answer["server_timing"] == {"infer_ms": 1.0}


def test_a_text_frame_is_an_error_and_the_connection_goes_on():
    with fake_server("state is missing", ANSWER) as uri, wire_client.PolicyClient(uri) as client:
        with pytest.raises(wire_client.PolicyServerError, match=r"^state is missing$"):
            client.infer(OBSERVATION)
        assert client.infer(OBSERVATION)["actions"].shape == (2, 8)


def test_nobody_there_names_the_address_and_what_to_do():
    uri = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(wire_client.ServerUnreachableError, match=f"{uri}.*--mode=serve") as caught:
        wire_client.PolicyClient(uri, wait=0)
    assert "\n" not in str(caught.value)


def test_a_server_that_starts_late_is_waited_for():
    port = free_port()
    found = []

    def ask():
        with wire_client.PolicyClient(f"ws://127.0.0.1:{port}", wait=10) as client:
            found.append(client.infer(OBSERVATION))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.4)
    with fake_server(ANSWER, port=port):
        thread.join(5)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("status", "line"), [(http.HTTPStatus.UNAUTHORIZED, "refuses the API key"), (http.HTTPStatus.NOT_FOUND, "HTTP 404")]
)
def test_a_refused_handshake_is_not_retried(status, line):
    def refuse(connection, request):
        return connection.respond(status, "no")

    with fake_server(process_request=refuse) as uri:
        began = time.monotonic()
        with pytest.raises(wire_client.ServerUnreachableError, match=line):
            wire_client.PolicyClient(uri, wait=30)
        assert time.monotonic() - began < 5


def test_the_key_is_sent():
    seen = []

    def look(connection, request):
        seen.append(request.headers.get("Authorization"))

    with fake_server(process_request=look) as uri:
        wire_client.PolicyClient(uri, api_key="secret").close()
        wire_client.PolicyClient(uri).close()
    assert seen == ["Api-Key secret", None]


@pytest.mark.parametrize("greeting", ["hello", b"\x00\x01", protocol.pack({"cameras": []}), protocol.pack([1])])
def test_another_kind_of_server_is_recognised(greeting):
    unreachable = pytest.raises(wire_client.ServerUnreachableError, match="no policy server")
    with fake_server(greeting=greeting) as uri, unreachable:
        wire_client.PolicyClient(uri)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101"])
def test_a_server_that_dies_in_the_handshake_is_tried_again(said):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        tried = []

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    tried.append(connection.recv(20))
                    connection.sendall(said)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(wire_client.ServerUnreachableError, match="no policy server answers"):
            wire_client.PolicyClient(f"ws://127.0.0.1:{port}", wait=0.6)
        listener.shutdown(socket.SHUT_RDWR)
    assert len(tried) >= 2


def test_a_server_of_something_else_is_not_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer():
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"500 unrecognised command\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(wire_client.ServerUnreachableError, match="is no policy server"):
            wire_client.PolicyClient(f"ws://127.0.0.1:{port}", wait=30)


def test_a_lost_connection_is_said_to_be_lost():
    lost = pytest.raises(wire_client.ServerLostError, match=r"connection to ws://127\.0\.0\.1:\d+ lost")
    with fake_server() as uri, wire_client.PolicyClient(uri) as client, lost:
        client.infer(OBSERVATION)


def test_a_late_answer_is_never_taken_for_the_next_one():
    slow = threading.Event()

    def late():
        slow.wait(5)
        return ANSWER

    with fake_server(late, ANSWER) as uri:
        client = wire_client.PolicyClient(uri, timeout=0.1)
        with pytest.raises(wire_client.ServerLostError, match=r"did not answer within 0\.1 s"):
            client.infer(OBSERVATION)
        slow.set()
        with pytest.raises(wire_client.ServerLostError):
            client.infer(OBSERVATION)


@pytest.mark.parametrize("answer", [protocol.pack({"actions": np.ones((3, 8))}), protocol.pack({}), protocol.pack(3)])
def test_a_malformed_answer_is_an_error(answer):
    malformed = pytest.raises(protocol.ProtocolError, match=r"expected \(2, 8\)")
    with fake_server(answer) as uri, wire_client.PolicyClient(uri) as client, malformed:
        client.infer(OBSERVATION)


@pytest.mark.parametrize("uri", ["127.0.0.1:8000", "http://host:1", "ws://", "ws://host:port", ""])
def test_no_address_is_a_value_error(uri):
    with pytest.raises(ValueError, match="expected ws://HOST:PORT"):
        wire_client.PolicyClient(uri)
