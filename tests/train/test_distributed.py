"""Several processes train as one: real processes on this machine, each with its own devices, joined over a socket."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.train import distributed, sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from tests.small import small_config

REPOSITORY = Path(__file__).parents[2]

CONFIG = """
from tests.small import small_config

def get_config():
    config = small_config()
    config.data.path = {path!r}
    config.train.steps, config.train.eval_every, config.train.save_every = {steps}, {steps}, {steps}
    config.train.eval_batches = 2
    return config
"""


def free_port(start: int = 0) -> int:
    """One that nobody listens on, from ``start`` on."""
    for port in range(start, start + 1000) if start else [0]:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return s.getsockname()[1]
    raise OSError("no port is free")


def environment(devices: int, **more: str) -> dict[str, str]:
    flags = re.sub(r"device_count=\d+", f"device_count={devices}", os.environ["XLA_FLAGS"])
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": flags, **more}


def by_flags(count: int) -> list[tuple[list[str], dict[str, str]]]:
    """The flags and the environment of each process."""
    address = f"--coordinator=127.0.0.1:{free_port()}"
    return [([address, f"--num_processes={count}", f"--process_id={i}"], {}) for i in range(count)]


def by_slurm(count: int) -> list[tuple[list[str], dict[str, str]]]:
    """As srun starts tasks on this host; JAX makes the port of the coordinator from the number of the job."""
    job = {"SLURM_JOB_ID": str(free_port(61440) - 61440), "SLURM_STEP_NODELIST": "localhost"}
    job |= {"SLURM_NTASKS": str(count), "SLURM_STEP_NUM_NODES": "1"}
    return [([], {**job, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}) for i in range(count)]


class Run:
    """The processes of one training run, their output in files beside its workdir."""

    def __init__(self, workdir: Path, dataset_path: Path, steps: int, devices: int, told: list, timeout: int):
        self.workdir = workdir
        config = workdir.with_name(f"config{steps}.py")
        config.write_text(CONFIG.format(path=str(dataset_path), steps=steps))
        self.processes, self.logs = [], []
        for i, (flags, env) in enumerate(told):
            self.logs.append(workdir.with_name(f"{workdir.name}.{i}.log"))
            command = [sys.executable, "-m", "drifting_vla_jax.main", f"--config={config}", f"--workdir={workdir}"]
            with self.logs[i].open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [*command, f"--timeout={timeout}", *flags],
                        env=environment(devices, **env),
                        stdout=log,
                        stderr=log,
                        cwd=workdir.parent,
                    )
                )

    def wait_for(self, step: int) -> None:
        """Returns once the metrics of a step are written."""
        file, deadline = self.workdir / "metrics.jsonl", time.monotonic() + 200
        while not file.is_file() or f'"step": {step},' not in file.read_text():
            assert time.monotonic() < deadline and all(p.poll() is None for p in self.processes), self.output()
            time.sleep(0.02)

    def exit_codes(self, within: float = 200) -> list[int]:
        deadline = time.monotonic() + within
        return [p.wait(deadline - time.monotonic()) for p in self.processes]

    def output(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)

    def metrics(self, name: str) -> dict[int, float]:
        lines = map(json.loads, (self.workdir / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: line[name] for line in lines if name in line}

    def last(self):
        """The last checkpoint, on this process's first device: (state, position in the data)."""
        config, checkpoints = small_config(), Checkpoints(self.workdir)
        mesh = sharding.make_mesh(config, jax.devices()[:1])
        return jax.device_get(checkpoints.restore_state(checkpoints.latest(), config, mesh))


@pytest.fixture
def run(tmp_path, dataset_path):
    """run(name, steps, devices each, told, timeout) -> a started ``Run``; what still runs at the end is killed."""
    started = []

    def run(name: str, steps: int, devices: int, told: list, timeout: int = 600):
        started.append(Run(tmp_path / name, dataset_path, steps, devices, told, timeout))
        return started[-1]

    yield run
    for process in (process for each in started for process in each.processes):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_two_processes_of_four_devices_train_as_one_device_does(run):
    """Acceptance: losses equal to 1e-5, parameters to 1e-4, after 20 steps; the validation too."""
    two, one = run("two", 20, 4, by_slurm(2)), run("one", 20, 1, [([], {})])
    assert two.exit_codes() == [0, 0], two.output()
    assert one.exit_codes() == [0], one.output()
    for name in ("train/loss", "val/position_error_cm", "val/spread_ratio", "val/energy_score"):
        losses, expected = two.metrics(name), one.metrics(name)
        assert list(losses) == list(expected) and len(losses) == (20 if name == "train/loss" else 1)
        np.testing.assert_allclose(list(losses.values()), list(expected.values()), rtol=1e-5)
    (state, position), (expected, same) = two.last(), one.last()
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4, rtol=0), state.params, expected.params)
    assert position == same  # any number of processes can go on from either
    assert "2 processes, 8 devices" in two.logs[0].read_text() and "stopped at step 20" in two.logs[0].read_text()
    assert "step" not in two.logs[1].read_text()  # the second one says nothing


@pytest.mark.slow
def test_a_signal_at_one_process_stops_both_and_they_go_on_bit_by_bit(run, tmp_path):
    """Acceptance: exit 0 within 30 seconds, the same step in both, and as if nothing had happened in the end."""
    whole = run("whole", 12, 1, by_flags(2))
    assert whole.exit_codes() == [0, 0], whole.output()
    stopped = run("run", 12, 1, by_flags(2))
    stopped.wait_for(2)
    stopped.processes[1].send_signal(signal.SIGTERM)
    assert stopped.exit_codes(within=30) == [0, 0], stopped.output()
    assert 2 < Checkpoints(tmp_path / "run").latest() < 12
    resumed = run("run", 12, 1, by_flags(2))
    assert resumed.exit_codes() == [0, 0], resumed.output()
    assert resumed.metrics("train/loss") == whole.metrics("train/loss")
    jax.tree.map(np.testing.assert_array_equal, resumed.last(), whole.last())


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "to"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 1)])
def test_when_one_dies_or_stands_still_the_other_ends_with_a_clear_line(run, sent, to):
    """Stated: within a sixth of the time-out, 15 s here, and the time between two heartbeats."""
    pair = run("run", 2000, 1, by_flags(2), timeout=90)
    pair.wait_for(3)
    pair.processes[to].send_signal(sent)
    assert pair.processes[1 - to].wait(30) != 0
    said = pair.logs[1 - to].read_text()
    assert "if another process has ended, its log says why" in said or "another task died" in said


def python(code: str) -> subprocess.Popen:
    command = [sys.executable, "-c", f"from drifting_vla_jax.train import distributed\n{code}"]
    return subprocess.Popen(command, env=environment(1), stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_who_finds_no_one_says_so_and_ends():
    address = f"127.0.0.1:{free_port()}"
    waits = 14, 8  # the coordinator is still there when the other gives up
    started = [python(f"distributed.initialise({address!r}, 3, {i}, {s})") for i, s in enumerate(waits)]  # two of three
    lonely = python(f"distributed.initialise('127.0.0.1:{free_port()}', 3, 2, 8)")
    for i, process in enumerate(started):
        said = process.communicate(timeout=40)[1]
        expected = (
            f"error: after {waits[i]} s: (process {i} of 3) the coordinator {address} answers, but not all of the 3"
        )
        assert process.returncode == 1 and expected in said
    said = lonely.communicate(timeout=40)[1]
    assert lonely.returncode == 1 and "(process 2 of 3) no answer from the coordinator 127.0.0.1:" in said


@pytest.mark.slow
def test_a_standstill_ends_the_process_with_one_line():
    """A wait that Python cannot interrupt, after a sign of life."""
    stuck = python(
        "import threading, time\n"
        "distributed._watch = distributed._Watchdog(0.5, lambda: 'never')\n"
        "time.sleep(0.4); distributed.heartbeat('step 7'); time.sleep(0.4); distributed.heartbeat('step 8')\n"
        "threading.Lock().acquire() and threading.Event().wait()"
    )
    said = stuck.communicate(timeout=40)[1]
    assert stuck.returncode == 1
    assert "error: after 0.5 s: process 0 of 1 is still at: step 8; it or another one hangs" in said


class Asked(Exception):
    """JAX was asked to connect; carries how."""


@pytest.fixture
def told(monkeypatch):
    """told(coordinator, num_processes, process_id) -> what JAX is told; None if it is not asked at all."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "JAX_COORD"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(distributed, "_watch", None)

    def connect(**given):
        raise Asked({name: value for name, value in given.items() if "timeout" not in name})

    monkeypatch.setattr(jax.distributed, "initialize", connect)

    def told(*given):
        try:
            distributed.initialise(*(given or (None, None, None)), 60)
        except Asked as asked:
            distributed._watch.stop()
            return asked.args[0]
        return None

    return told


def test_flags_say_where_the_others_are(told, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # explicit flags win
    where = {"coordinator_address": "host:1", "num_processes": 2, "process_id": 1}
    assert told("host:1", 2, 1) == where | {"cluster_detection_method": "deactivate"}


def test_the_others_are_not_asked_through_a_proxy(told, monkeypatch):
    """JAX's library would follow http_proxy, and end the process with a stack trace of C++."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("grpc_proxy", raising=False)
    assert told("[::1]:1", 2, 1)["coordinator_address"] == "[::1]:1" and dict(os.environ)["grpc_proxy"] == ""
    monkeypatch.setenv("grpc_proxy", "http://ours:1")  # somebody means it
    assert told("host:1", 2, 1) and dict(os.environ)["grpc_proxy"] == "http://ours:1"


@pytest.mark.parametrize(
    ("coordinator", "reason"),
    [
        ("[::1]:9", "refused|unreachable|Cannot assign"),
        ("no-such-host.invalid:9", "not known|resolution"),
        (f"{'a' * 70}:9", "too long"),
    ],
)
def test_what_keeps_a_process_from_the_others_is_named(coordinator, reason):
    said = distributed._unreached(coordinator, 2, 1)
    assert re.search(rf"no answer from the coordinator {re.escape(coordinator)}: .*({reason})", said)


def test_without_flags_jax_looks_around(told):
    assert told() == {}


def test_a_task_alone_on_its_node_takes_all_its_devices(told, monkeypatch):
    """JAX by itself would give a task of SLURM only the device of its number."""
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    assert told() == {"local_device_ids": []}
    monkeypatch.setenv("SLURM_NTASKS", "16")
    assert told() == {}


def test_one_process_starts_nothing(told, monkeypatch):
    assert told(None, 1, None) is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert told() is None


def test_where_jax_finds_no_cluster_nothing_is_started(told, monkeypatch):
    def connect(**given):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", connect)
    with distributed.processes():
        assert distributed._watch._stopped.is_set()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", None, 0), "go together; missing: num_processes"),
        (("host", 2, 0), "--coordinator=host is no address; expected host:port"),
        (("host:70000", 2, 0), "--coordinator=host:70000 is no address; expected host:port, a port from 1 to 65535"),
        (("http://host:80", 2, 0), "--coordinator=http://host:80 is no address"),
        (("::1:1234", 2, 0), "an IPv6 address stands in brackets, as in [::1]:1234"),
        (("host:1", 2, 2), "--process_id=2 is out of range; expected 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(told, given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        told(*given)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_becomes_a_question(number):
    before = signal.getsignal(number)
    with distributed.interruptible() as interrupted:
        assert not interrupted()
        for _ in range(1 if number == signal.SIGINT else 3):
            signal.raise_signal(number)
        assert interrupted()
        assert (signal.getsignal(number) is signal.SIG_DFL) == (number == signal.SIGINT)  # a second Ctrl-C ends it
    assert signal.getsignal(number) is before
