"""The images' recipes: pinned, of one mind with the code; and what their scripts do when something is missing."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from drifting_vla_jax.envs.rlbench import installation
from drifting_vla_jax.envs.rlbench.tasks import TASKS
from drifting_vla_jax.rollout import worker  # noqa: F401 - defines the flags that compose.yml uses

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
RECIPES = sorted(DOCKER.glob("*.Dockerfile"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_what_is_copied_is_there_and_nobody_is_root(recipe):
    text = recipe.read_text()
    ignored = (ROOT / ".dockerignore").read_text()
    for options, files in re.findall(r"^COPY((?: --\S+)*) (.+)$", text, re.M):
        for name in files.split()[:-1] if "--from" not in options else ():
            assert (ROOT / name).exists() and f"!{name.split('/')[0]}" in ignored
    assert re.findall(r"^USER (\d+)$", text, re.M)[-1] != "0"
    assert all(":" in base and "latest" not in base for base in re.findall(r"^FROM (\S+)", text, re.M))


def test_the_simulators_image_is_pinned_checked_and_light():
    text = (DOCKER / "rollout.Dockerfile").read_text()
    pins = [installation.PYREP, *installation.FORKS.values()]
    for pin in pins:
        assert re.search(r"[0-9a-f]{40}", pin)[0] in text
    assert "sha256sum" in text and re.search(r"^ARG COPPELIASIM_SHA256=$", text, re.M)
    assert '".[rlbench]"' in text and "cuda" not in text and "V4_1_0" in text
    assert "ubuntu:20.04" in text


def test_compose_asks_workers_for_what_they_know():
    compose = yaml.safe_load((DOCKER / "compose.yml").read_text())
    services = compose["services"]
    for service in services.values():
        if "build" in service:
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert services["workers"]["depends_on"] == {"policy": {"condition": "service_healthy"}}
    assert services["results"]["depends_on"] == {"workers": {"condition": "service_completed_successfully"}}
    assert re.fullmatch(r"\$\{TASKS:-(.*)\}", compose["x-tasks"])[1].split(",") == list(TASKS)
    from absl import flags

    asked = re.findall(r"--(\w+)=", services["workers"]["command"][-1])
    assert len(asked) > 8 and all(name in flags.FLAGS for name in asked)
    configuration = next(word for word in services["policy"]["command"] if word.startswith("--config="))
    assert (ROOT / re.search(r":-(.*)\}", configuration)[1]).is_file()


# the entrypoint


@pytest.fixture
def simulator(tmp_path):
    root = tmp_path / "coppeliasim"
    root.mkdir()
    (root / "libcoppeliaSim.so").write_text("")
    return str(root)


def entrypoint(*command: str, **env: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "COPPELIASIM_ROOT")}
    script = ["bash", str(DOCKER / "entrypoint.sh"), *command]
    return subprocess.run(script, env={**clean, **env}, capture_output=True, text=True, timeout=60)


def test_the_simulators_libraries_are_set_before_python_starts(programs, simulator):
    path = programs(python='echo "$LD_LIBRARY_PATH $QT_QPA_PLATFORM_PLUGIN_PATH $DISPLAY $*"')
    done = entrypoint("python", "work", PATH=path, COPPELIASIM_ROOT=simulator, DISPLAY=":7", LD_LIBRARY_PATH="/a")
    assert done.returncode == 0, done.stderr
    test, work = done.stdout.splitlines()
    assert test == f"{simulator}:/a {simulator} :7 -m drifting_vla_jax.envs.rlbench.check"
    assert work == f"{simulator}:/a {simulator} :7 work"


def test_a_display_is_started_where_there_is_none(programs, simulator):
    number = f":{900 + os.getpid() % 90}"
    socket = f"/tmp/.X11-unix/X{number[1:]}"
    Path(socket).parent.mkdir(exist_ok=True)
    listen = f"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('{socket}'); time.sleep(3)"
    path = programs(Xvfb=f'exec {sys.executable} -c "{listen}"', python='echo "$DISPLAY"')
    try:
        done = entrypoint("python", PATH=path, COPPELIASIM_ROOT=simulator, DISPLAY_NUMBER=number, SELF_TEST="0")
        assert done.returncode == 0 and done.stdout == f"{number}\n", done.stderr
    finally:
        Path(socket).unlink(missing_ok=True)
    path = programs(Xvfb="echo no screens; exit 1")
    done = entrypoint("python", PATH=path, COPPELIASIM_ROOT=simulator, DISPLAY_NUMBER=number)
    assert done.returncode == 1 and f"error: Xvfb does not start on {number}" in done.stderr
    assert "no screens" in done.stderr


def test_without_a_simulator_or_its_picture_there_is_advice(programs, simulator, tmp_path):
    done = entrypoint("true", COPPELIASIM_ROOT=str(tmp_path / "nowhere"))
    assert done.returncode == 1 and "no libcoppeliaSim.so lies" in done.stderr
    path = programs(python='echo "error: libGL is missing" >&2; exit 1')
    done = entrypoint("python", PATH=path, COPPELIASIM_ROOT=simulator, DISPLAY=":7")
    assert done.returncode == 1 and not done.stdout
    assert "error: libGL is missing\nerror: the simulator renders nothing (above: why)" in done.stderr
    path = programs(python="exec sleep 30")
    done = entrypoint("python", PATH=path, COPPELIASIM_ROOT=simulator, DISPLAY=":7", SELF_TEST_SECONDS="1")
    assert done.returncode == 1 and "it hung, try SELF_TEST_SECONDS" in done.stderr


def test_wandb_gets_the_key_by_the_environment_alone(programs):
    path = programs(wandb=f'echo "$# $1 $WANDB_API_KEY" > {programs().split(":")[0]}/said')
    said = Path(path.split(":")[0]) / "said"
    assert entrypoint("true", PATH=path).returncode == 0 and not said.exists()
    assert entrypoint("true", PATH=path, WANDB_API_KEY="secret", WANDB_MODE="online").returncode == 0
    assert said.read_text() == "1 login secret\n"
    done = entrypoint("echo", "on", PATH=programs(wandb="exit 1"), WANDB_API_KEY="secret", WANDB_MODE="online")
    assert done.returncode == 0 and done.stdout == "on\n" and "WandB refuses the key" in done.stderr
    assert "secret" not in done.stderr


# several workers


def workers(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    command = ["bash", str(DOCKER / "workers.sh"), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)


def test_workers_share_the_list(programs):
    done = workers("3", "--out=a b", PATH=programs(python='IFS="|"; echo "$*"'))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        f"-m|drifting_vla_jax.rollout.worker|--out=a b|--worker={i}" for i in range(3)
    ]


def test_if_one_worker_fails_the_others_are_stopped(programs):
    began = time.monotonic()
    done = workers("3", PATH=programs(python="[[ $* == *--worker=1* ]] && exit 7; exec sleep 60"))
    assert done.returncode == 7 and time.monotonic() - began < 10
    assert "a worker ended with 7, the others are stopped" in done.stderr


def test_a_worker_that_its_simulator_took_along_is_started_again(programs, tmp_path):
    crash = f"echo start >> {tmp_path}/starts; [ $(wc -l < {tmp_path}/starts) -ge 3 ] || kill -SEGV $$"
    done = workers("1", PATH=programs(python=crash))
    assert done.returncode == 0 and (tmp_path / "starts").read_text() == "start\n" * 3, done.stderr
    assert done.stderr.count("a simulator crashed (139), its worker is started again") == 2
    done = workers("1", PATH=programs(python="kill -SEGV $$"), RESTARTS="2")
    assert done.returncode == 139 and done.stderr.count("started again") == 2


@pytest.mark.parametrize("count", ["", "two", "0"])
def test_workers_want_a_number(count):
    done = workers(count)
    assert done.returncode == 1 and "how many workers?" in done.stderr
