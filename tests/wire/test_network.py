"""The network between robot and policy: whatever is at the address, one typed error says what was really asked."""

import contextlib
import http
import socket
import ssl
import string
import threading
import time

import numpy as np
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.sync.server import serve

from drifting_vla_jax.wire import protocol
from drifting_vla_jax.wire.client import PolicyClient, PolicyServerError, ServerLostError, ServerUnreachableError
from tests.wire.test_client import METADATA, OBSERVATION, fake_server, free_port


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SOCKS_PROXY", "WS_PROXY", "WSS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


class Listener:
    """Answers every connection with ``said``, then hangs up, or holds its peace with it open."""

    def __init__(self, said: bytes = b"", hold: bool = False):
        self.said, self.hold, self.asked, self._open = said, hold, [], []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with contextlib.suppress(OSError):
                    connection.settimeout(2)
                    self.asked.append(connection.recv(4096))
                    connection.sendall(self.said)
                self._open.append(connection)
                if not self.hold:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        for each in (self._socket, *self._open):
            each.close()


def unreachable(uri: str, **how) -> str:
    """The one line that a client says of an address."""
    with pytest.raises(ServerUnreachableError) as caught:
        PolicyClient(uri, **{"wait": 0, "timeout": 0.5, **how})
    assert isinstance(caught.value, ConnectionError) and "\n" not in str(caught.value)
    return str(caught.value)


OTHERS = {
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH"),
    "redis": (b"-ERR unknown command\r\n", "-ERR unknown command"),
    "smtp": (b"220 mail ESMTP\r\n", "220 mail"),
    "web": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "answers with HTTP 200; it is no policy server"),
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP 403"),
    "tls": (b"\x15\x03\x01\x00\x02\x02\x46\r\n", "no policy server"),
    "endless": (b"x" * 200_000, "no policy server"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_service_on_the_port_is_said_to_be_one(name):
    said, line = OTHERS[name]
    with Listener(said) as other:
        began = time.monotonic()
        assert line in (told := unreachable(f"ws://127.0.0.1:{other.port}", wait=30)) and len(told) < 400
        assert f"ws://127.0.0.1:{other.port}" in told and time.monotonic() - began < 5


@pytest.mark.parametrize("hold", [True, False])
def test_a_server_that_says_nothing_costs_a_time_out(hold):
    with Listener(hold=hold) as mute:
        began = time.monotonic()
        said = unreachable(f"ws://127.0.0.1:{mute.port}", timeout=0.3)
        assert ("timed out" if hold else "it hung up, as a server of wss:// or of something else does") in said
        assert time.monotonic() - began < 3


def test_a_gateway_whose_server_is_not_up_is_tried_again():
    for status in (502, 503, 504):
        with Listener(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) as gateway:
            assert f"HTTP {status}: the server is starting" in unreachable(f"ws://127.0.0.1:{gateway.port}", wait=0.3)
            assert len(gateway.asked) == 2


def test_a_name_that_does_not_resolve():
    assert "the name no-such-robot.invalid has no address" in unreachable("ws://no-such-robot.invalid:8000")


@pytest.fixture(scope="module")
def certificate():
    """The context of a server whose certificate nobody here trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_tls_that_is_not_trusted_and_the_two_schemes_confused(certificate):
    with serve(lambda connection: None, "127.0.0.1", 0, ssl=certificate) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        said = unreachable(f"wss://127.0.0.1:{port}", wait=30)
        assert (
            "is not trusted: unable to get local issuer certificate; name the PEM file to trust in" in said
            and "SSL_CERT_FILE" in said
        )
        assert "it hung up, as a server of wss:// or" in unreachable(f"ws://127.0.0.1:{port}")
        server.shutdown()
    with fake_server() as uri:
        assert "it hung up, as a server of ws:// or" in unreachable(uri.replace("ws:", "wss:"))
    with Listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web:
        said = unreachable(f"wss://127.0.0.1:{web.port}", wait=30)
        assert "speaks no TLS" in said and "is its address ws:// instead of wss://?" in said


def test_a_proxy_of_the_environment_is_named_without_its_password(no_proxies):
    uri = "ws://policy.example.com:8000"
    no_proxies.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{free_port()}")
    said = unreachable(uri)
    assert f"at {uri} through the proxy http://***@127.0.0.1:" in said and "(from HTTPS_PROXY)" in said
    assert "Connection refused" in said and "NO_PROXY=policy.example.com" in said and "secret" not in said
    for status in (403, 407):
        with Listener(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) as proxy:
            no_proxies.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
            assert f"through the proxy http://127.0.0.1:{proxy.port} (from HTTPS_PROXY)" in (said := unreachable(uri))
            assert str(status) in said and proxy.asked[0].startswith(b"CONNECT policy.example.com:8000")


@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:9", "ftp://x", "http://", "socks://h:1", "http://u@h:1", "http://h:x"]
)
def test_a_proxy_that_cannot_be_used_is_one_line(no_proxies, value):
    no_proxies.setenv("HTTPS_PROXY", value)
    assert "(from HTTPS_PROXY)" in unreachable("wss://policy.example.com")


def test_a_server_on_ipv6():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")

    def handle(connection):
        connection.send(protocol.pack(METADATA))
        connection.recv()

    with serve(handle, sock=listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with PolicyClient(f"ws://[::1]:{server.socket.getsockname()[1]}") as client:
            assert client.metadata == METADATA
        server.shutdown()


BAD = ["localhost:8000", "http://", "ws:/", "ws:host", "ws://::1:8000", "ws://[::1", "ws://[::1]:x", "ws://h:0",
       "ws://h:70000", "ws://h\n:80", "ws://a b:80", "ws://..:80",
       f"ws://{'a' * 70}:80", "ws://u@h:80", "ws://h:80#x", "ws://\ud800:80"]  # fmt: skip


@pytest.mark.parametrize("uri", BAD)
def test_what_is_no_address_is_a_value_error(uri):
    with pytest.raises(ValueError, match="is no server address; expected ws://HOST:PORT"):
        PolicyClient(uri)


def test_secrets_of_an_address_and_keys_that_cannot_be_sent():
    port = free_port()
    said = unreachable(f"ws://me:secret@127.0.0.1:{port}/policy?token=secret")
    assert f"at ws://***@127.0.0.1:{port}/policy?***" in said and "secret" not in said
    with pytest.raises(ValueError, match="only one can be sent"):
        PolicyClient("ws://me:secret@host:80", api_key="key")
    for key in ("a\nb", "clé"):
        with pytest.raises(ValueError, match="line break or letters beyond ASCII"):
            PolicyClient("ws://host:80", api_key=key)


ODD = {
    "cameras": [1, "top", [None]],
    "action_names": [3, [1], ["x"]],
    "horizon": [0, "4", None, True, 1.5, -1],
    "image_size": ["224", 0],
    "control_hz": [0, "20", float("nan"), True],
    "history": [-1, "1"],
    "state_mean": [[0.0], "abc", 3],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ODD.items() for value in values])
def test_metadata_of_wrong_types_is_no_policy_servers(key, value):
    with fake_server(greeting=protocol.pack(METADATA | {key: value})) as uri:
        assert "no policy server" in (said := unreachable(uri)) and key.removesuffix("_names") in said.replace(
            "actions", "action"
        )


@pytest.mark.parametrize(
    "answer",
    [
        {"actions": np.full((2, 8), np.nan), "server_timing": {"infer_ms": 1.0}},
        {"actions": np.ones((2, 8))},
        {"actions": np.ones((2, 8)), "server_timing": {"infer_ms": "1"}},
        {"actions": np.ones((2, 8)), "server_timing": [1]},
    ],
)
def test_an_answer_that_no_arm_should_execute_is_an_error(answer):
    with fake_server(protocol.pack(answer)) as uri, PolicyClient(uri) as client, pytest.raises(protocol.ProtocolError):
        client.infer(OBSERVATION)


def test_a_server_that_no_longer_reads_does_not_hold_the_robot():
    ends = threading.Event()

    def handle(connection):
        connection.send(protocol.pack(METADATA))
        ends.wait(20)

    with serve(handle, "127.0.0.1", 0, max_queue=1, close_timeout=0.1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = PolicyClient(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", timeout=0.3)
        began = time.monotonic()
        with pytest.raises(ServerLostError):
            for _ in range(30):
                client._connection.send(b"x")  # fill what the server keeps for later
            client.infer(OBSERVATION | {"images": {"top": np.zeros((24 << 20), np.uint8)}})
        assert time.monotonic() - began < 8
        ends.set()
        server.shutdown()


TYPED = (ValueError, ServerUnreachableError)
WEIRD = st.text(st.sampled_from(string.ascii_letters + ":/@?#[]%. \n\0é\u202e" + string.digits), max_size=12)


def test_any_text_as_an_address_is_a_typed_error():
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.builds(str.__add__, st.sampled_from(["", "ws://", "wss://", "ws://127.0.0.1:", "ws://[::1]:", "ws:"]), WEIRD)
    )
    def holds(uri):
        with pytest.raises(TYPED) as caught:
            PolicyClient(
                uri if "127" in uri or "::1" in uri else uri.replace("ws://", "ws://x.invalid/"), wait=0, timeout=0.2
            )
        assert "\n" not in str(caught.value)

    holds()


def test_any_bytes_from_a_port_are_a_typed_error():
    upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    heads = st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 301 No\r\nLocation: ", upgraded])

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.builds(bytes.__add__, heads, st.binary(max_size=60)))
    def holds(said):
        with Listener(said) as other:
            assert "127.0.0.1" in unreachable(f"ws://127.0.0.1:{other.port}")

    holds()


def test_any_first_message_and_any_answer_is_typed():
    messages = st.one_of(
        st.text(max_size=20),
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=4,
        ).map(protocol.pack),
    )

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(messages)
    def holds(message):
        with fake_server(greeting=message) as uri:
            unreachable(uri)
        refused = pytest.raises((PolicyServerError, protocol.ProtocolError))
        with fake_server(message) as uri, PolicyClient(uri) as client, refused:
            client.infer(OBSERVATION)

    holds()


def test_a_redirect_to_nowhere():
    def away(connection, request):
        response = connection.respond(http.HTTPStatus.FOUND, "")
        response.headers["Location"] = "gopher://elsewhere"
        return response

    with fake_server(process_request=away) as uri:
        assert uri in unreachable(uri)
