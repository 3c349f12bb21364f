"""The robot's end: observation in, chunk of actions out, over one blocking websocket.

    with PolicyClient("ws://127.0.0.1:8000") as client:
        answer = client.infer({"images": {...}, "state": state, "prompt": "open the drawer"})
        answer["actions"]          float32 [h, 8], or as wide as metadata["action_dim"], see ``protocol``
        answer["server_timing"]    {"queue_ms", "infer_ms", "total_ms"}

Three things can go wrong, and each has a type: the server cannot be reached or was lost (``ServerUnreachableError``,
``ServerLostError``, both ConnectionError), or it is there and refuses this request (``PolicyServerError``).
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import ssl
import struct
import time
import urllib.parse
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, ProxyError, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.uri import WebSocketURI, parse_uri

from drifting_vla_jax.core import network
from drifting_vla_jax.wire import protocol

_RETRY_SECONDS = 0.25
_GREETING_SECONDS = 10.0  # a server that takes a connection has its first message ready
_LATER = (502, 503, 504)  # HTTP: a server, or one behind it, that is starting, stopping or full


class ServerUnreachableError(ConnectionError):
    """Nobody answers at this address, or what answers is no policy server, or it refuses the key; says what was asked."""


class ServerLostError(ConnectionError):
    """The connection broke or a request went unanswered; the client is closed."""


REFUSALS = ("bad request", "inference failed")  # kinds: of an observation, of the policy's own answer to it


class PolicyServerError(RuntimeError):
    """The server refused this request and said why; the connection stays usable.

    Attributes:
      kind: how the message begins: one of ``REFUSALS``, "busy", or "" for what no server of ours says.
    """

    @property
    def kind(self) -> str:
        kind = str(self).partition(": ")[0]
        return kind if kind in (*REFUSALS, "busy") else ""


class PolicyClient:
    """A policy behind a socket. Not for several threads at once: one request is in flight at a time.

    Attributes:
      uri: where it is connected.
      metadata: the server's first message (``protocol.METADATA_KEYS``).
    """

    def __init__(self, uri: str, api_key: str | None = None, timeout: float = 60.0, wait: float = 10.0):
        """Connects and reads the metadata.

        Args:
          uri: ws://host:port or wss://host:port; ``core.network`` says which are asked through a proxy.
          api_key: sent as ``Authorization: Api-Key ...`` if given.
          timeout: seconds to wait for any one answer.
          wait: seconds to keep trying while the server starts; 0 tries once.

        Raises:
          ValueError: the uri is none, or the key cannot be sent.
          ServerUnreachableError: no server within ``wait``, a wrong key, or another kind of server.
        """
        self.uri, self._at = uri, _check_uri(uri, api_key)
        self._proxy = network.robot_proxy(uri)
        self._asked = f"{network.shown(uri)} {self._proxy}" if self._proxy else network.shown(uri)
        self._timeout = timeout
        self._stack = contextlib.ExitStack()
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        deadline = time.monotonic() + wait
        while True:
            reason = self._try_connect(headers)
            if reason is None:
                break
            if time.monotonic() + _RETRY_SECONDS > deadline:
                leave = f"; NO_PROXY={self._at.host} leaves the proxy out" if self._proxy else ""
                raise ServerUnreachableError(
                    f"no policy server answers at {self._asked} ({reason}); start one with "
                    f"'python -m drifting_vla_jax.main --mode=serve ...' or correct the address{leave}"
                )
            time.sleep(_RETRY_SECONDS)

    def _try_connect(self, headers: dict | None) -> str | None:
        """Connects and reads the metadata; returns why not if trying again may help, raises if it will not."""
        try:
            connection = connect(
                self.uri,
                compression=None,  # images are noise to deflate
                max_size=protocol.MAX_MESSAGE_BYTES,
                additional_headers=headers,
                open_timeout=min(_GREETING_SECONDS, self._timeout),
                close_timeout=min(1.0, self._timeout),  # a peer that is gone has nothing to say
                ping_interval=None,  # every request has its own timeout
                proxy=self._proxy.url if self._proxy else None,
            )
        except (OSError, ConnectionClosed, WebSocketException, ImportError, ValueError) as error:
            return self._why(error)
        self._connection: ClientConnection = self._stack.enter_context(connection)
        seconds, rest = divmod(max(self._timeout, 0.001), 1)  # a peer that no longer reads must not hold us
        stalled = struct.pack("ll", int(seconds), int(rest * 1e6))
        with contextlib.suppress(OSError):  # closed already: reading says so
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, stalled)
        try:
            self.metadata = self._read_metadata()
        except ServerLostError as error:
            return str(error)
        return None

    def _why(self, error: Exception) -> str:
        """Of an error in connecting: why, if trying again may help.

        Raises:
          ServerUnreachableError: it will not.
        """
        asked, cause = self._asked, error.__cause__
        if isinstance(error, InvalidStatus):
            status = error.response.status_code
            if status in _LATER:
                return f"HTTP {status}: the server is starting, stopping or full"
            if status == 401:
                raise ServerUnreachableError(f"the policy server at {asked} refuses the API key") from error
            raise ServerUnreachableError(f"{asked} answers with HTTP {status}; it is no policy server") from error
        if isinstance(error, InvalidHandshake) and not isinstance(error, ProxyError):
            if isinstance(cause, EOFError):  # hung up half-way, as a server does that is being killed
                return "it hung up, as a server of wss:// or of something else does"
            said = _line(f"{error}: {cause}" if cause else error)
            raise ServerUnreachableError(f"what answers at {asked} is no policy server: {said}") from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise ServerUnreachableError(
                f"the certificate of {asked} is not trusted: {error.verify_message}; name the PEM file to trust in the "
                "environment variable SSL_CERT_FILE, and ask the host that the certificate is for"
            ) from error
        if isinstance(error, ssl.SSLEOFError):
            return "it hung up, as a server of ws:// or of something else does"
        if isinstance(error, ssl.SSLError):
            raise ServerUnreachableError(
                f"what answers at {asked} speaks no TLS ({error.reason}); is its address ws:// instead of wss://?"
            ) from error
        if isinstance(error, ImportError):  # of a library for SOCKS
            raise ServerUnreachableError(
                f"{asked} cannot be asked: that takes the package python-socks; install it, or NO_PROXY={self._at.host}"
            ) from error
        if isinstance(error, socket.gaierror):
            host = "the proxy's host" if self._proxy else f"the name {self._at.host}"
            return f"{host} has no address: {error.strerror}"
        if isinstance(error, (OSError, ConnectionClosed)):  # TimeoutError is an OSError
            return str(error) or type(error).__name__
        said = _line(f"{error}: {cause}" if cause else error)
        raise ServerUnreachableError(f"{asked} cannot be asked: {said}") from error

    def _read_metadata(self) -> dict:
        try:
            metadata = protocol.unpack(self._receive(min(_GREETING_SECONDS, self._timeout)))
            protocol.check_metadata(metadata)
            protocol.check_values(metadata)
        except (protocol.ProtocolError, PolicyServerError) as error:
            self.close()
            raise ServerUnreachableError(
                f"what answers at {self._asked} is no policy server: {_line(error)}"
            ) from error
        return metadata

    def infer(self, observation: dict) -> dict:
        """Asks for a chunk.

        Args:
          observation: see ``protocol``; cameras, image size and state as in ``self.metadata``.

        Returns:
          {"actions": float32 [h, action_dim], "server_timing": {...}}.

        Raises:
          PolicyServerError: the server refuses this observation; ask again with a better one.
          ServerLostError: connection lost or no answer in time; make a new client.
          ProtocolError: the observation cannot be encoded, or the answer is malformed.
        """
        message = protocol.pack(observation)
        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise self._lost(error) from error
        answer = protocol.unpack(self._receive(self._timeout))
        if wrong := self._malformed(answer):
            raise protocol.ProtocolError(f"the answer of {self._asked} {wrong}")
        return answer

    def _malformed(self, answer: Any) -> str | None:
        """What is wrong with an answer, if anything."""
        actions = answer.get("actions") if isinstance(answer, dict) else None
        expected = (self.metadata["horizon"], self.metadata["action_dim"])
        if not isinstance(actions, np.ndarray) or actions.shape != expected:
            return f"has actions {getattr(actions, 'shape', None)}; expected {expected}"
        if not np.isfinite(actions).all():
            return "has actions that are not finite"
        timing = answer.get("server_timing")
        spent = timing.get("infer_ms") if isinstance(timing, dict) else None
        if not isinstance(spent, (int, float)) or not math.isfinite(spent):
            return "does not say how long it took, server_timing with infer_ms"
        return None

    def _receive(self, timeout: float) -> Any:
        """The next binary message."""
        try:
            message = self._connection.recv(timeout=timeout)
        except TimeoutError as error:
            self.close()  # a late answer must not be taken for the next one
            raise ServerLostError(f"{self._asked} did not answer within {timeout:g} s") from error
        except ConnectionClosed as error:
            raise self._lost(error) from error
        if isinstance(message, str):
            raise PolicyServerError(message)
        return message

    def _lost(self, error: ConnectionClosed) -> ServerLostError:
        self.close()
        return ServerLostError(f"connection to {self._asked} lost: {error}")

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        self._stack.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _check_uri(uri: str, api_key: str | None) -> WebSocketURI:
    """The parts of an address.

    Raises:
      ValueError: it is none, or not together with the key.
    """
    hint = ""
    try:
        if re.search(r"[\s\x00-\x1f\x7f]", uri):
            raise ValueError("white space")
        if re.match(r"wss?://[^\[/]*:[^/]*:", uri) and "@" not in uri:
            hint = "; an IPv6 address stands in brackets, as in ws://[::1]:8000"
        at = parse_uri(uri)
        at.host.encode("idna")  # as it will be asked for
        if urllib.parse.urlsplit(uri).port == 0:
            raise ValueError("port 0")
    except (ValueError, WebSocketException):
        raise ValueError(
            f"{network.shown(uri)!r} is no server address; expected ws://HOST:PORT, for example ws://127.0.0.1:8000{hint}"
        ) from None
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("the API key has a line break or letters beyond ASCII; it cannot be sent")
    if api_key and at.username is not None:
        raise ValueError(f"{network.shown(uri)} has a user and password, and there is an API key; only one can be sent")
    return at


def _line(said: object) -> str:
    """What another party said, for a message."""
    text = " ".join(ascii(str(said))[1:-1].split())
    return text if len(text) <= 200 else f"{text[:200]} ..."
