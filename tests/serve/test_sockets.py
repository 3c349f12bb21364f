"""The port a server takes: whatever is wrong with it is one line, and IPv6 is an address like any other."""

import socket

import pytest

from drifting_vla_jax.serve import sockets


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_there_is_not(port):
    with pytest.raises(ValueError, match=f"config.serve.port is {port}; expected 0"):
        sockets.bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "", "a" * 70, "a\0b", " "])
def test_a_name_without_an_address(host):
    with pytest.raises(OSError, match="config.serve.host .* has no address: .*; 0.0.0.0 or :: listens on all of ours"):
        sockets.bind(host, 0)


def test_an_address_of_another_machine():
    with pytest.raises(OSError, match="cannot listen on port 0 of 192.0.2.1: .*; that is no address of this machine"):
        sockets.bind("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["::1", "[::1]", "::"])
def test_ipv6(host):
    try:
        sock = sockets.bind(host, 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with sock:
        sock.listen()
        port = sock.getsockname()[1]
        socket.create_connection(("::1", port), 1).close()
        if host == "::":
            socket.create_connection(("127.0.0.1", port), 1).close()
        with pytest.raises(OSError, match=f"port {port} on ::1? is in use; stop what listens there"):
            sockets.bind(host, port)


def test_no_ipv6_on_this_machine(monkeypatch):
    def refuse(*_):
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match="cannot listen on port 0 of ::1: Address family not supported"):
        sockets.bind("::1", 0)
