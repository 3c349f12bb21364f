"""Folders by name: on this machine, in the hub's cache, or neither."""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drifting_vla_jax.core import hub

ROOT = Path(__file__).parents[2]
REVISION = "0" * 40


@pytest.fixture
def home(tmp_path):
    """A cache of the hub's library that holds config.json of owner/name."""
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    (repository / "snapshots" / REVISION).mkdir(parents=True)
    (repository / "snapshots" / REVISION / "config.json").write_text("{}")
    return tmp_path


def ask(name: str, home: Path, **environment: str) -> str:
    """What another process, which reads the environment afresh, is told about a name."""
    code = (
        "import sys; from drifting_vla_jax.core import hub\n"
        "try: print(hub.folder(sys.argv[1], ['config.json']))\n"
        "except hub.HubError as error: print(error)"
    )
    environment = {**os.environ, "HF_HOME": str(home), **environment}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, name], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_directory_is_itself(tmp_path):
    assert hub.folder(str(tmp_path), ["config.json"]) == tmp_path


def test_a_cached_repository_needs_no_network(home):
    found = Path(ask("owner/name", home, HF_HUB_OFFLINE="1"))
    assert found == home / "hub" / "models--owner--name" / "snapshots" / REVISION
    assert (found / "config.json").read_text() == "{}"


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=str)
def test_what_cannot_be_had_is_said_in_one_line(environment, home):
    said = ask("owner/another", home, **environment)
    assert said.startswith("there is no directory owner/another, and the Hugging Face hub does not give it (")
    assert said.endswith("hf download owner/another --local-dir DIR") and "\n" not in said


def test_a_data_set_is_looked_for_among_data_sets(monkeypatch):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(hub.HubError, match="hf download owner/arm --repo-type dataset --local-dir DIR"):
        hub.folder("owner/arm", ["meta/*"], kind="dataset")
    assert asked == {"name": "owner/arm", "repo_type": "dataset", "allow_patterns": ["meta/*"]}


@pytest.mark.parametrize("name", ["dinov2", "/no/such/place", "a/b/c", "owner/", "../up"])
def test_a_name_that_is_neither(name):
    with pytest.raises(hub.HubError, match="is no directory and no name of a repository on the Hugging Face hub"):
        hub.folder(name, ["config.json"])


def test_a_name_that_the_hub_does_not_allow():
    with pytest.raises(hub.HubError, match=r"does not give it \(Cannot have -- or \.\. in repo_id"):
        hub.folder("a..b/c", ["config.json"])


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"width": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged: .*; fetch it again"):
        hub.read_json(tmp_path / "config.json")


class _Portal(http.server.BaseHTTPRequestHandler):
    """Answers everything with ``said``."""

    said = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if b"<" in self.said else "application/json")
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *_):
        pass


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """asked(endpoint, VARIABLE=value) -> what is said where the hub is asked there, in this environment."""
    import huggingface_hub
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def ask(endpoint: str, **environment: str) -> str:
        huggingface_hub.close_session()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
        with pytest.raises(hub.HubError) as caught:
            hub.folder("owner/name", ["*.json"])
        assert "\n" not in str(caught.value) and endpoint in str(caught.value)
        return str(caught.value)

    yield ask
    huggingface_hub.close_session()


@pytest.mark.parametrize("said", [b"<html>please log in</html>", b"{}", b"[1]", b"3"])
def test_a_login_page_in_between_is_said_to_be_one(said, asked):
    with http.server.HTTPServer(("127.0.0.1", 0), type("Portal", (_Portal,), {"said": said})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        assert (
            f"(what answers is no hub; a login page of the network may be in between; asked was {endpoint})"
            in asked(endpoint)
        )
        said = asked(endpoint.replace("http:", "https:"))
        assert "SSL" in said
        server.shutdown()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "Name or service not known"),
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "through the proxy socks5://127.0.0.1:9 (from ALL_PROXY)"),
        (
            {"HTTPS_PROXY": "http://me:secret@127.0.0.1:9"},
            "through the proxy http://***@127.0.0.1:9 (from HTTPS_PROXY)",
        ),
        ({"HTTPS_PROXY": "ftp://x"}, "Unknown scheme for proxy URL"),
    ],
)
def test_the_network_between_us_and_the_hub_is_named(environment, said, asked):
    told = asked("https://hub.invalid", **environment)
    assert said in told and "secret" not in told
