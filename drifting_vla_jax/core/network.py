"""Addresses on a network: written and read in one way, said without secrets, and what stands between them and us.

A proxy of the environment is for the internet. A robot's computer is asked directly: a host of this machine, of a private or
link-local network, of ``.local``, or with a name of one word. WS_PROXY or WSS_PROXY are followed to these as well, except
to this machine.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass

HIDDEN = "***"


@dataclass(frozen=True)
class Proxy:
    """A proxy that the environment names, in full, and the variable that names it."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"through the proxy {shown(self.url)} (from {self.variable})"


def shown(url: str) -> str:
    """A URL for a message, its user, password and query hidden."""
    return re.sub(r"\?.*", f"?{HIDDEN}", re.sub(r"//.*@", f"//{HIDDEN}@", url))


def joined(host: str, port: int) -> str:
    """host:port; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port of host:port, an IPv6 address without its brackets.

    Raises:
      ValueError: it is none.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or re.search(r"[\s/\[\]]", bare) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise ValueError("expected host:port, a port from 1 to 65535")
    if ":" in bare and bare == host:
        raise ValueError(f"an IPv6 address stands in brackets, as in [{bare}]:{port}")
    return bare, int(port)


def proxy_of(url: str, schemes: tuple[str, ...]) -> Proxy | None:
    """The proxy that the environment has for a URL: that of the first of ``schemes`` (variables SCHEME_PROXY) there is."""
    parts, proxies = urllib.parse.urlsplit(url), urllib.request.getproxies()
    if not parts.hostname or urllib.request.proxy_bypass(joined(parts.hostname, parts.port or 0)):
        return None
    found = next((scheme for scheme in schemes if scheme in proxies), None)
    if found is None:
        return None
    scheme, _, rest = proxies[found].rpartition("://")
    if found == "socks" and scheme in ("", "http"):
        scheme = "socks5h"
    return Proxy(f"{scheme or 'http'}://{rest}", f"{found.upper()}_PROXY")


def robot_proxy(url: str) -> Proxy | None:
    """The proxy between us and a policy server, ws:// or wss://; see the module."""
    scheme, host = urllib.parse.urlsplit(url).scheme, (urllib.parse.urlsplit(url).hostname or "").rstrip(".")
    address = _literal(host)
    if host == "localhost" or host.endswith(".localhost") or (address and address.is_loopback):
        return None
    near = address.is_private or address.is_link_local if address else "." not in host or host.endswith(".local")
    general = ("socks", "https") if scheme == "wss" else ("socks", "https", "http")
    return proxy_of(url, (scheme,) if near else (scheme, *general))


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:  # a name
        return None
