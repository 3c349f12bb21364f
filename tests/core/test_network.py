"""Addresses: written in one way, shown without secrets, and whether a proxy of the environment stands in between."""

import pytest

from drifting_vla_jax.core import network

PROXY = "http://user:secret@proxy.corp:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for scheme in ("http", "https", "all", "socks", "ws", "wss", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ws://robot:8000", "ws://robot:8000"),
        ("ws://me:se/cr@et@robot:8000/a?token=1", "ws://***@robot:8000/a?***"),
        ("wss://token@[::1]:8000", "wss://***@[::1]:8000"),
        ("no url", "no url"),
    ],
)
def test_secrets_are_not_shown(url, said):
    assert network.shown(url) == said


@pytest.mark.parametrize("host", ["host", "10.0.0.1", "::1", "fe80::1%eth0", "node.cluster"])
def test_what_is_joined_is_split_again(host):
    assert network.split(network.joined(host, 1234)) == (host, 1234)


@pytest.mark.parametrize(
    "address", ["host", "host:", ":80", "host:0", "host:65536", "host:٣", "a b:80", "[]:80", "http://h:80"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="expected host:port, a port from 1 to 65535"):
        network.split(address)


def test_an_ipv6_address_wants_brackets():
    with pytest.raises(ValueError, match=r"an IPv6 address stands in brackets, as in \[fe80::1\]:80"):
        network.split("fe80::1:80")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.9", "[::1]", "a.localhost"])
def test_this_machine_is_never_asked_through_a_proxy(environment, host):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "WS_PROXY"):
        environment.setenv(name, PROXY)
    assert network.robot_proxy(f"ws://{host}:8000") is None


@pytest.mark.parametrize(
    "host", ["192.168.1.5", "10.1.2.3", "172.20.0.2", "[fe80::1]", "[fd00::2]", "robot-pc", "arm.local"]
)
def test_a_robots_network_is_asked_directly_unless_told(environment, host):
    environment.setenv("HTTPS_PROXY", PROXY)
    assert network.robot_proxy(f"ws://{host}:8000") is None
    environment.setenv("WS_PROXY", PROXY)
    assert network.robot_proxy(f"ws://{host}:8000").variable == "WS_PROXY"


def test_the_internet_is_asked_as_the_environment_says(environment):
    assert network.robot_proxy("wss://policy.example.com") is None
    environment.setenv("https_proxy", "proxy.corp:3128")  # as curl takes it
    found = network.robot_proxy("wss://policy.example.com")
    assert found == network.Proxy("http://proxy.corp:3128", "HTTPS_PROXY")
    environment.setenv("SOCKS_PROXY", "host:1080")
    assert network.robot_proxy("ws://8.8.8.8:8000").url == "socks5h://host:1080"
    environment.setenv("NO_PROXY", "example.com,8.8.8.8")
    assert network.robot_proxy("wss://policy.example.com") is None is network.robot_proxy("ws://8.8.8.8:8000")


def test_a_proxy_is_said_without_its_password(environment):
    environment.setenv("HTTPS_PROXY", PROXY)
    said = str(network.robot_proxy("wss://policy.example.com"))
    assert said == "through the proxy http://***@proxy.corp:3128 (from HTTPS_PROXY)"
