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
import time
import urllib.parse
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from drifting_vla_jax.wire import protocol

_RETRY_SECONDS = 0.25


class ServerUnreachableError(ConnectionError):
    """Nobody answers at this address, or what answers is no policy server, or it refuses the key."""


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
          uri: ws://host:port or wss://host:port.
          api_key: sent as ``Authorization: Api-Key ...`` if given.
          timeout: seconds to wait for any one answer.
          wait: seconds to keep trying while the server starts; 0 tries once.

        Raises:
          ValueError: the uri is none.
          ServerUnreachableError: no server within ``wait``, a wrong key, or another kind of server.
        """
        self.uri = _check_uri(uri)
        self._timeout = timeout
        self._stack = contextlib.ExitStack()
        headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        deadline = time.monotonic() + wait
        while True:
            reason = self._try_connect(headers)
            if reason is None:
                break
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise ServerUnreachableError(
                    f"no policy server answers at {uri} ({reason}); start one with "
                    "'python -m drifting_vla_jax.main --mode=serve ...' or correct the address"
                )
            time.sleep(_RETRY_SECONDS)

    def _try_connect(self, headers: dict | None) -> str | None:
        """Connects and reads the metadata; returns why not if trying again may help, raises if it will not."""
        local = urllib.parse.urlsplit(self.uri).hostname in ("localhost", "127.0.0.1", "::1")
        try:
            connection = connect(
                self.uri,
                compression=None,  # images are noise to deflate
                max_size=protocol.MAX_MESSAGE_BYTES,
                additional_headers=headers,
                ping_interval=None,  # every request has its own timeout
                proxy=None if local else True,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status == 503:
                return "the server is starting, stopping or full"
            if status == 401:
                raise ServerUnreachableError(f"the policy server at {self.uri} refuses the API key") from error
            raise ServerUnreachableError(f"{self.uri} answers with HTTP {status}; it is no policy server") from error
        except InvalidHandshake as error:
            if isinstance(error.__cause__, EOFError):  # hung up half-way, as a server does that is being killed
                return str(error)
            raise ServerUnreachableError(f"what answers at {self.uri} is no policy server: {error}") from error
        except (OSError, ConnectionClosed) as error:  # TimeoutError is an OSError
            return str(error) or type(error).__name__
        self._connection: ClientConnection = self._stack.enter_context(connection)
        try:
            self.metadata = self._read_metadata()
        except ServerLostError as error:
            return str(error)
        return None

    def _read_metadata(self) -> dict:
        try:
            metadata = protocol.unpack(self._receive())
            protocol.check_metadata(metadata)
        except (protocol.ProtocolError, PolicyServerError) as error:
            self.close()
            raise ServerUnreachableError(f"what answers at {self.uri} is no policy server: {error}") from error
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
        answer = protocol.unpack(self._receive())
        actions = answer.get("actions") if isinstance(answer, dict) else None
        expected = (self.metadata["horizon"], self.metadata["action_dim"])
        if not isinstance(actions, np.ndarray) or actions.shape != expected:
            raise protocol.ProtocolError(
                f"the answer of {self.uri} has actions {getattr(actions, 'shape', None)}; expected {expected}"
            )
        return answer

    def _receive(self) -> Any:
        """The next binary message."""
        try:
            message = self._connection.recv(timeout=self._timeout)
        except TimeoutError as error:
            self.close()  # a late answer must not be taken for the next one
            raise ServerLostError(f"{self.uri} did not answer within {self._timeout:g} s") from error
        except ConnectionClosed as error:
            raise self._lost(error) from error
        if isinstance(message, str):
            raise PolicyServerError(message)
        return message

    def _lost(self, error: ConnectionClosed) -> ServerLostError:
        self.close()
        return ServerLostError(f"connection to {self.uri} lost: {error}")

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        self._stack.close()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _check_uri(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    try:
        valid = parts.scheme in ("ws", "wss") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        valid = False
    if not valid:
        raise ValueError(f"{uri!r} is no server address; expected ws://HOST:PORT, for example ws://127.0.0.1:8000")
    return uri
