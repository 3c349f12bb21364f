"""Configurations from anywhere: by path, by name, a user's own, a run's; what cannot be one is refused in a line."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import base, quickstart
from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.config import io as config
from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.config.files import ConfigFileError, load

ROOT = Path(__file__).parents[2]
OWN = "from configs import quickstart\n\ndef get_config():\n    config = quickstart.get_config()\n"


@pytest.fixture(autouse=True)
def away(tmp_path, monkeypatch):
    """An empty folder, without the project's on the path of imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place and Path(place).resolve() != ROOT])


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return name


def named(name: str, *lines: str) -> str:
    return OWN + "".join(f"    {line}\n" for line in (*lines, f"config.name = {name!r}", "return config"))


@pytest.mark.parametrize("text", ["quickstart", "quickstart.py", "configs/quickstart.py", f"{ROOT}/configs/quickstart.py",
                                  f"file://{ROOT}/configs//base.py", "$THERE/base.py", "~/base.py"])  # fmt: skip
def test_the_projects_own(text, monkeypatch):
    monkeypatch.setenv("THERE", f"{ROOT}/configs")
    monkeypatch.setenv("HOME", f"{ROOT}/configs")
    found = load(text)
    made = (quickstart if "quick" in text else base).get_config()
    assert config.config_hash(found) == config.config_hash(made) and found.is_locked


@pytest.mark.parametrize("name", config_files.known())
def test_every_one_by_its_name(name):
    assert load(name).name


@pytest.mark.parametrize(
    "place",
    ["mine.py", "a folder/m\u00fc-1.py", "quickstart.py", "configs/mine.py", "configs/quickstart.py", "json.py", "x/base.py",
     "robot.v2", "run:1/mine.py"],
)  # fmt: skip
def test_a_users_own(place):
    """Its name may be one of the project's, or of a module: what it starts from is the project's."""
    before = set(sys.modules), list(sys.path), list(sys.meta_path)
    for path in (write(place, named("mine")), Path(place).resolve()):
        assert load(str(path)).name == "mine"
    write(place, named("mine").replace("from configs", "from drifting_vla_jax.configs"))
    assert load(place).name == "mine"
    assert (set(sys.modules), sys.path, sys.meta_path) == before
    assert not list(Path().rglob("__pycache__/mine*"))


def test_what_lies_beside_it():
    write("lab/arm.py", "TASKS = ('reach',)\n")
    write("lab/mine.py", "import arm\n" + named("mine", "config.env.tasks = arm.TASKS"))
    assert load("lab/mine.py").env.tasks == ("reach",)
    write(
        "configs/quickstart.py", named("theirs").replace("from configs", "from drifting_vla_jax.configs")
    )  # a folder configs: its own come first
    write("configs/other.py", "from configs import quickstart\nget_config = quickstart.get_config\n")
    assert load("configs/other.py").name == "theirs"
    write("elsewhere/other.py", "from configs import quickstart\nget_config = quickstart.get_config\n")
    assert load("elsewhere/other.py").name == load("quickstart").name


def test_an_argument():
    write(
        "mine.py",
        named("mine")
        .replace("get_config():", "get_config(seed):")
        .replace("    return", "    config.seed = int(seed)\n    return"),
    )
    assert load("mine.py:7").seed == 7
    for text, message in {
        "mine.py": "missing 1 required",
        "mine.py:x": "line 6: ValueError",
        "base:3": "TypeError",
    }.items():
        with pytest.raises(ConfigFileError, match=message):
            load(text)


def test_a_runs_configuration():
    made = base.get_config()
    made.env.tasks, made.data.mixture.paths = ("a", "b"), ("x", "y")
    config.save(made, Path())
    assert config.differences(load("config.json"), made) == []
    for text in ("[]", "{", "{}", '{"data": 1}', json.dumps({"name": "x"})):
        Path("config.json").write_text(text)
        with pytest.raises(ConfigFileError, match="is not the config.json of a run"):
            load("config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no get_config"),
        ("def get_config(:", r"mine.py, line 1: invalid syntax"),
        ("x = 1\n\nraise KeyError('a')", r"mine.py, line 3: KeyError: 'a'"),
        ("import nowhere_to_be_found", "line 1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("from configs import quikstart", "line 1: ImportError: cannot import name 'quikstart'"),
        ("get_config = 3", "has no get_config"),
        ("def get_config():\n    1", "returned nothing; is its return missing"),
        ("def get_config():\n    return {'a': 1}", "returned a dict; expected a ConfigDict"),
        ("def get_config():\n    return get_config()", "RecursionError"),
        ("import sys; sys.exit('no')", "line 1: SystemExit: no"),
        (named("x", "config.train.learning_rat = 1"), 'line 5: AttributeError: .*Did you mean "learning_rate"'),
        (named("x", "config.train.steps = 'many'"), "line 5: TypeError"),
        (
            named("x", "config.unlock()", "config.train.learning_rat = 1"),
            "rat: did you mean 'train.learning_rate'",
        ),
        (named("x", "config.unlock()", "del config.train.steps"), "lacks train.steps; start from"),
        ("from ml_collections import ConfigDict as get_config", "lacks action.frame, action"),
        ("\0", "mine.py"),
    ],
)
def test_a_file_that_gives_none(text, message):
    write("mine.py", text)
    with pytest.raises(ConfigFileError, match=message) as caught:
        load("mine.py")
    assert len(str(caught.value)) < 400


def test_a_file_that_is_none():
    write("mine.py", named("x"))
    Path("folder").mkdir()
    Path("latin.py").write_bytes(b"# caf\xe9\n")
    cases = {
        "configs/nope.py": "no configuration file configs/nope.py; by name there are base, dit_b2",
        "quikstart": "no configuration file quikstart; did you mean 'quickstart'",
        "mine": "did you mean mine.py",
        "folder/": "folder is a folder; expected a file, such as folder/NAME.py",
        "configs:": "no configuration file configs",
        "latin.py": "latin.py",
        "gs://b/mine.py": "in a bucket",
        "": "it is empty",
    }
    for text, message in cases.items():
        with pytest.raises((ConfigFileError, FileNotFoundError, ValueError), match=message):
            load(text)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.one_of(st.binary(max_size=30), st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")),
                 st.sampled_from([b"get_config = ", b"def get_config(): return "]).flatmap(
                     lambda head: st.sampled_from([b"int", b"1/0", b"[].x", b"lambda: {}", b"(yield)"]).map(head.__add__))),
       st.sampled_from(["mine.py", "mine.json"]))  # fmt: skip
def test_any_file_is_a_configuration_or_a_line(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with pytest.raises(ConfigFileError):
        load(str(path))


def test_paths_in_keys(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("DATA", "/data")
    made = base.get_config()
    made.data.path, made.data.mixture.paths = "~/sets//kitchen/", ("$DATA/a/", "b//")
    made.model.vision.name, made.serve.tls_key = "hf://facebook/dinov2-small", "${DATA}/key.pem"
    config.expand_paths(made)
    assert made.data.path == "/home/ann/sets/kitchen" and made.data.mixture.paths == ("/data/a", "b")
    assert (made.model.vision.name, made.model.text.name) == ("facebook/dinov2-small", "bytes")
    assert (made.serve.tls_key, made.serve.tls_certificate, made.eval.demos) == ("/data/key.pem", "", "")
    again = made.copy_and_resolve_references()
    config.expand_paths(again)
    assert config.differences(made, again) == []
    for section, key, value in (
        ("data", "path", "gs://b/x"),
        ("serve", "tls_key", "$UNSET_HERE/k"),
        ("eval", "demos", "~nix"),
    ):
        other = made.copy_and_resolve_references()
        other[section][key] = value
        with pytest.raises(ConfigError, match=f"config.{section}.{key}: "):
            config.expand_paths(other)
