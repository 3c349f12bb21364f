"""What a server lets others take of it, what it says when that is used up, and what it tells Prometheus."""

import http.client
import socket
import ssl
import threading
import time

import pytest
import trustme
import websockets
from websockets.sync.client import connect

from drifting_vla_jax.serve import sockets
from drifting_vla_jax.serve.server import ServerLimits
from drifting_vla_jax.wire import protocol
from drifting_vla_jax.wire.client import PolicyClient, ServerUnreachableError
from tests.serve.test_server import StubPolicy, observation, serving


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_one_connection_too_many_is_told_so_and_let_in_later():
    with serving(limits=ServerLimits(connections=2)) as server:
        uri = f"ws://127.0.0.1:{server.port}"
        first, second = PolicyClient(uri), PolicyClient(uri)
        with pytest.raises(ServerUnreachableError, match="starting, stopping or full"):
            PolicyClient(uri, wait=0)
        assert get(server.port, "/healthz") == (200, "OK")
        assert first.infer(observation(1))["actions"][0, 0] == 1
        second.close()
        with PolicyClient(uri, wait=5) as third:
            assert third.infer(observation(3))["actions"][0, 0] == 3
        first.close()
        assert server.counts["full"] >= 1


def test_a_full_queue_answers_busy_at_once_and_the_connection_goes_on():
    policy = StubPolicy()
    with serving(policy, limits=ServerLimits(queue=4)) as server:
        uri, policy.seconds = f"ws://127.0.0.1:{server.port}", 0.5
        raws = [connect(uri, compression=None) for _ in range(9)]
        began = time.monotonic()
        for n, raw in enumerate(raws):
            raw.recv()
            raw.send(protocol.pack(observation(n)))
            time.sleep(0.03)  # in this order: the first batch is at work, four wait, the rest are told
        said = raws[-1].recv(timeout=5)
        assert said == "busy: 4 requests wait already; ask again later"
        assert time.monotonic() - began < 0.5
        policy.seconds = 0.0
        assert [protocol.unpack(raw.recv(timeout=10))["actions"][0, 0] for raw in raws[:5]] == [0, 1, 2, 3, 4]
        raws[-1].send(protocol.pack(observation(8)))
        assert protocol.unpack(raws[-1].recv(timeout=10))["actions"][0, 0] == 8
        assert server.counts == {"answered": 6, "busy": 4}
        for raw in raws:
            raw.close()


def test_silence_is_ended_and_activity_is_not():
    with serving(limits=ServerLimits(idle_seconds=0.3)) as server:
        uri = f"ws://127.0.0.1:{server.port}"
        with connect(uri) as silent, PolicyClient(uri) as busy:
            silent.recv()
            for _ in range(5):
                busy.infer(observation())
                time.sleep(0.1)
            with pytest.raises(websockets.ConnectionClosed) as caught:
                silent.recv(timeout=5)
        assert caught.value.rcvd.reason == "nothing came for 0.3 s"
        assert server.counts == {"answered": 5, "idle": 1}


def test_prometheus_reads_what_happened():
    with serving(api_key="k") as server, PolicyClient(f"ws://127.0.0.1:{server.port}", api_key="k") as client:
        for n in range(3):
            client.infer(observation(n))
        assert get(server.port, "/metrics")[0] == 401
        status, text = get(server.port, "/metrics", Authorization="Api-Key k")
    assert status == 200
    for line in (
        'drifting_vla_requests_total{outcome="answered"} 3.0',
        'drifting_vla_requests_total{outcome="failed"} 0.0',
        'drifting_vla_turned_away_total{reason="unauthorized"} 1.0',
        "drifting_vla_connections 1.0",
        "drifting_vla_queue_length 0.0",
        "drifting_vla_batch_size_sum 3.0",
        "drifting_vla_total_seconds_count 3.0",
    ):
        assert line in text.splitlines()
    assert "process_resident_memory_bytes" in text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key, who signed it), PEM files for 127.0.0.1."""
    folder, signer = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = signer.issue_cert("127.0.0.1")
    names = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
    issued.cert_chain_pems[0].write_to_path(names[0])
    issued.private_key_pem.write_to_path(names[1])
    signer.cert_pem.write_to_path(names[2])
    return tuple(map(str, names))


def test_tls_is_spoken_to_clients_that_trust_the_signer(certificate, monkeypatch):
    cert, key, signer = certificate
    with serving(tls=sockets.tls(cert, key)) as server:
        uri = f"wss://127.0.0.1:{server.port}"
        with pytest.raises(ServerUnreachableError, match=r"[Cc]ertificate"):
            PolicyClient(uri, wait=0)
        monkeypatch.setenv("SSL_CERT_FILE", signer)
        with PolicyClient(uri) as client:
            assert client.infer(observation(4))["actions"][0, 0] == 4


def test_half_a_certificate_a_missing_file_and_a_wrong_key_are_refused(certificate, tmp_path):
    cert, key, signer = certificate
    assert sockets.tls("", "") is None
    assert isinstance(sockets.tls(cert, key), ssl.SSLContext)
    with pytest.raises(ValueError, match="both files"):
        sockets.tls(cert, "")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        sockets.tls(cert, str(tmp_path / "none.pem"))
    with pytest.raises(ValueError, match="no certificate and its key"):
        sockets.tls(signer, key)


def test_a_peer_that_never_finishes_its_handshake_disturbs_nobody():
    with serving() as server:
        half = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        half[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        with PolicyClient(f"ws://127.0.0.1:{server.port}") as client:
            assert client.infer(observation(2))["actions"][0, 0] == 2
        for sock in half:
            sock.close()
    assert not [t for t in threading.enumerate() if t.name == "policy-server"]
