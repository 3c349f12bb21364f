"""The port a server takes and the certificate it shows; everything that can be wrong with either is one line."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the port (0: a free one) but does not listen yet.

    Raises:
      ValueError: there is no such port.
      OSError: the port is in use or not for everybody, or the host is not ours.
    """
    if not 0 <= port < 2**16:  # the resolver would take it modulo 65536
        raise ValueError(f"config.serve.port is {port}; expected 0 (a free one) to 65535")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OSError(
            errno.EADDRNOTAVAIL,
            f"config.serve.host {host!r} has no address: {reason}; 0.0.0.0 or :: listens on all of ours",
        ) from error
    family, kind, proto, _, address = found[0]
    try:
        sock = socket.socket(family, kind, proto)
    except OSError as error:  # a machine without IPv6
        raise port_error(error, host, port) from error
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address[0] == "::":  # all of ours, IPv4 too, whatever the system's custom is
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    try:
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise port_error(error, host, port) from error
    return sock


def port_error(error: OSError, host: str, port: int) -> OSError:
    """The same error, saying what to do."""
    if error.errno == errno.EADDRINUSE:
        message = (
            f"port {port} on {host} is in use; stop what listens there or choose another port (0 takes a free one)"
        )
        return OSError(error.errno, message)
    hint = {
        errno.EACCES: "; ports below 1024 are the administrator's, choose another",
        errno.EADDRNOTAVAIL: "; that is no address of this machine, 0.0.0.0 or :: listens on all of them",
    }.get(error.errno, "")
    return OSError(error.errno, f"cannot listen on port {port} of {host}: {error.strerror}{hint}")


def tls(certificate: str, key: str) -> ssl.SSLContext | None:
    """What wss:// takes, from PEM files; None without a certificate.

    Clients trust a certificate of their own making through the environment variable SSL_CERT_FILE.

    Raises:
      ValueError: one is given without the other, or they are not a certificate and its key.
      FileNotFoundError: no such file.
    """
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise ValueError("TLS takes both files, config.serve.tls_certificate and config.serve.tls_key")
    for name in certificate, key:
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no file {name}; config.serve.tls_* name PEM files")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ValueError(
            f"{certificate} and {key} are no certificate and its key in PEM form: {error.reason}"
        ) from None
    return context
