"""A policy behind a websocket: ``wire.protocol`` outside, one batching queue and one inference thread inside.

    connection    metadata first, then answers in the order of the requests; a bad request gets a text frame with one
                  line and the connection goes on
    GET /healthz  200 "OK" while serving. The port is taken first (so a port in use is known at once) but refuses
                  connections until every batch size is compiled, and again while draining
    GET /metrics  what ``telemetry`` counts, as Prometheus reads it
    key           ``Authorization: Api-Key K`` where a key is set, else 401; health alone needs none
    limits        of connections (503), of requests waiting (a text frame "busy ..." at once), of idle time; a peer that is
                  gone without a word is noticed by pings
    stop          SIGTERM, SIGINT or ``stop()``: no new connections, requests in flight are answered, then closed

``serve_forever`` is for a process, ``start``/``stop`` for a thread beside other work.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import logging
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from drifting_vla_jax.core.network import joined
from drifting_vla_jax.serve.batching import Batcher, BusyError, InferenceError, Result
from drifting_vla_jax.serve.metrics import Telemetry
from drifting_vla_jax.serve.sockets import bind, port_error
from drifting_vla_jax.wire import protocol

logger = logging.getLogger(__name__)
_websockets_logger = logging.getLogger(f"{__name__}.websockets")
_websockets_logger.setLevel(logging.WARNING)  # it would announce every connection

DRAIN_SECONDS = 30.0  # how long requests in flight may take once the server is told to stop


class Servable(Protocol):
    """What can be served.

    Attributes:
      metadata: exactly the wire's first message, see ``wire.protocol.METADATA_KEYS``.
      batch_sizes: compiled batch sizes, ascending.
    """

    metadata: dict[str, Any]
    batch_sizes: tuple[int, ...]

    def check(self, observation: dict) -> None:
        """Raises ValueError with one clear line if the observation cannot be used."""
        ...

    def infer(self, observations: Sequence[dict]) -> np.ndarray:
        """n <= max(batch_sizes) observations -> actions float32 [n, h, k]; blocks until the result is ready."""
        ...


@dataclass(frozen=True)
class ServerLimits:
    """What a server lets others take.

    Attributes:
      connections: open at once.
      queue: requests that wait for the network at once.
      idle_seconds: without a whole message, after which a connection is closed.
    """

    connections: int = 256
    queue: int = 256
    idle_seconds: float = 600.0


class PolicyServer:
    """Serves one policy on one port.

    Attributes:
      port: the bound port once ``start`` or ``serve_forever`` has it (useful with port=0).
    """

    _loop: asyncio.AbstractEventLoop  # these three exist once it serves
    _stop: asyncio.Event
    _batcher: Batcher

    def __init__(
        self,
        policy: Servable,
        *,
        host: str = "127.0.0.1",
        port: int,
        batch_deadline_ms: float,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        limits: ServerLimits | None = None,
    ):
        """Args:
        policy: what answers.
        host: the interface to listen on; loopback unless told otherwise.
        port: 0 takes a free one.
        batch_deadline_ms: how long a request waits for others to share its batch.
        api_key: what clients must present; without one everybody who reaches the port is let in.
        tls: makes it wss://, see ``sockets.tls``.
        limits: see ``ServerLimits``.
        """
        protocol.check_metadata(policy.metadata)
        self._policy = policy
        self._host = host
        self.port = port
        self._deadline_s = batch_deadline_ms / 1000
        self._api_key = api_key
        self._tls = tls
        self._limits = limits or ServerLimits()
        self._greeting = protocol.pack(policy.metadata)
        self._telemetry = Telemetry(
            policy.batch_sizes,
            connections=lambda: self._batcher.clients,
            queue_length=lambda: self._batcher.waiting,
        )
        self._draining = False
        self._idle: set[ServerConnection] = set()
        self._thread: threading.Thread | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Requests by how they ended and connections turned away, see ``telemetry``."""
        return self._telemetry.counts

    def serve_forever(self) -> None:
        """Warms, listens and returns once SIGTERM or SIGINT has been obeyed. Main thread only.

        Raises:
          OSError: the port is in use or the host is not ours; one line.
        """
        with ThreadPoolExecutor(1, "inference") as executor:
            sock = self._prepare(executor)
            asyncio.run(self._serve(sock, executor, ready=lambda: None, signals=True))

    def start(self) -> int:
        """Warms and listens in a background thread; returns the bound port. Errors are those of ``serve_forever``."""
        ready: Future[None] = Future()

        def run() -> None:
            try:
                with ThreadPoolExecutor(1, "inference") as executor:
                    sock = self._prepare(executor)
                    asyncio.run(self._serve(sock, executor, ready=lambda: ready.set_result(None), signals=False))
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)  # the caller of start has it

        self._thread = threading.Thread(target=run, name="policy-server", daemon=True)
        self._thread.start()
        ready.result()
        return self.port

    def stop(self) -> None:
        """Drains and ends the background thread; without one it does nothing."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
            self._thread = None

    def __enter__(self) -> PolicyServer:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _prepare(self, executor: ThreadPoolExecutor) -> socket.socket:
        """Takes the port, then compiles every batch size in the thread that will use it."""
        sock = bind(self._host, self.port)
        self.port = sock.getsockname()[1]
        try:
            example = protocol.example_observation(self._policy.metadata)
            for number, size in enumerate(self._policy.batch_sizes, 1):
                began = time.monotonic()
                try:
                    actions = executor.submit(self._policy.infer, [example] * size).result()
                except protocol.UnsoundActionsError as error:  # compiled it is; requests are answered each for itself
                    logger.warning("batch size %d, black images: %s", size, error)
                    continue
                metadata = self._policy.metadata
                expected = (size, metadata["horizon"], metadata["action_dim"])
                if np.shape(actions) != expected:
                    raise ValueError(
                        f"the policy answers {np.shape(actions)} to {size} observations; expected {expected}"
                    )
                seconds, total = time.monotonic() - began, len(self._policy.batch_sizes)
                logger.info("warm: batch size %d (%d of %d) in %.1f s", size, number, total, seconds)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _serve(
        self, sock: socket.socket, executor: ThreadPoolExecutor, *, ready: Callable[[], None], signals: bool
    ) -> None:
        self._loop, self._stop, self._draining = asyncio.get_running_loop(), asyncio.Event(), False
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._stop.set)
        self._batcher = Batcher(
            self._policy.infer,
            max_batch=max(self._policy.batch_sizes),
            deadline_s=self._deadline_s,
            max_waiting=self._limits.queue,
            executor=executor,
            on_batch=self._telemetry.batch,
        )
        try:
            server = await serve(
                self._handle,
                sock=sock,
                ssl=self._tls,
                process_request=self._admit,
                compression=None,
                max_size=protocol.MAX_MESSAGE_BYTES,
                ping_timeout=60,  # a simulator may hold its interpreter for long
                server_header=None,
                logger=_websockets_logger,
            )
        except OSError as error:  # another server began to listen while this one was compiling
            sock.close()
            raise port_error(error, self._host, self.port) from error
        logger.info("serving on %s://%s", "wss" if self._tls else "ws", joined(self._host.strip("[]"), self.port))
        ready()
        await self._stop.wait()
        await self._drain(server)
        logger.info("stopped: %s", self.counts)

    async def _drain(self, server: Server) -> None:
        self._draining = True
        server.close(close_connections=False)
        await asyncio.gather(*(connection.close(1001, "server stopping") for connection in list(self._idle)))
        try:
            await asyncio.wait_for(server.wait_closed(), DRAIN_SECONDS)
        except TimeoutError:
            logger.warning("requests in flight did not end within %g s; closing their connections", DRAIN_SECONDS)
            await asyncio.gather(*(c.close(1001, "server stopping") for c in server.connections))

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the handshake: health, then the key, then whether there is room; None lets the websocket open."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK")
        if self._api_key:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Api-Key {self._api_key}".encode()):
                self._telemetry.turned_away("unauthorized")
                reason = "expected the header 'Authorization: Api-Key KEY'"
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, reason)
        if request.path == "/metrics":
            return connection.respond(http.HTTPStatus.OK, self._telemetry.text())
        if len(connection.server.connections) >= self._limits.connections:
            self._telemetry.turned_away("full")
            reason = f"full: {self._limits.connections} connections are open; try again later"
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        """One connection: greet, then answer request after request."""
        self._batcher.join()
        try:
            await connection.send(self._greeting)
            while not self._draining:
                self._idle.add(connection)
                async with asyncio.timeout(self._limits.idle_seconds):
                    message = await connection.recv()
                self._idle.discard(connection)
                await connection.send(await self._answer(message))
            await connection.close(1001, "server stopping")
        except TimeoutError:
            self._telemetry.turned_away("idle")
            await connection.close(1001, f"nothing came for {self._limits.idle_seconds:g} s")
        except ConnectionClosed as closed:
            logger.debug("%s left: %s", connection.remote_address, closed)
        finally:
            self._idle.discard(connection)
            self._batcher.leave()

    async def _answer(self, message: str | bytes) -> str | bytes:
        """One request -> one answer, or the one line that says why not."""
        arrived = time.monotonic()
        try:
            if isinstance(message, str):
                raise protocol.ProtocolError("a text frame came; expected a binary msgpack message")
            observation = protocol.unpack(message)
            self._policy.check(observation)
        except ValueError as error:
            self._telemetry.ended("refused")
            return f"bad request: {error}"
        try:
            result = await self._batcher.submit(observation)
        except BusyError as error:
            self._telemetry.ended("busy")
            return f"busy: {error}"
        except InferenceError as error:
            self._telemetry.ended("failed")
            return f"inference failed: {error}"
        self._telemetry.ended("answered")
        return self._pack(result, arrived)

    def _pack(self, result: Result, arrived: float) -> bytes:
        """The answer; its last time is taken as late as it can be."""
        timing = {
            "queue_ms": result.queue_ms,  # waiting for a batch and for the inference thread
            "infer_ms": result.infer_ms,  # in policy.infer, until the result is ready, for the whole batch
            "total_ms": 1000 * (time.monotonic() - arrived),  # from message received to answer ready to send
        }
        self._telemetry.times(timing)
        return protocol.pack({"actions": result.actions, "server_timing": timing})
