"""Workers killed at random, the server killed once: every episode once, and the same results as in peace."""

import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from drifting_vla_jax.evaluate import worker_pool
from drifting_vla_jax.evaluate.evaluate import WORKER_COMMAND
from drifting_vla_jax.rollout.episode_log import episode_key, read_all_episodes, read_episodes
from drifting_vla_jax.rollout.runner import episode_list
from tests.evaluate.seeing_policy import SeeingPolicy
from tests.rollout.asked import asked

TASKS, EPISODES, WORKERS, KILLS = ("reach-red", "reach-blue"), 100, 4, 5
REPOSITORY = Path(__file__).parents[2]


class Server:
    """The policy server as a process that can be killed and started again at the same port."""

    def __init__(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self.start()

    def start(self):
        command = [sys.executable, "-m", "tests.evaluate.seeing_policy", str(self.port)]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.kill()


def run(server, out: Path, disturb=None) -> dict:
    """All episodes by key, without what differs from run to run; every one is recorded once."""
    specs = episode_list(**asked("fake", TASKS, episodes=EPISODES))
    options = {"server": f"ws://127.0.0.1:{server.port}", "env": "dummy", "tasks": ",".join(TASKS), "out": out}
    options |= {"episodes": EPISODES, "execute": 2, "max_steps": 19, "hold_steps": 3, "server_wait": 30}
    keys = [spec.key for spec in specs]
    with worker_pool.WorkerPool(
        WORKER_COMMAND, options, workers=WORKERS, out=out, keys=keys, episode_seconds=60
    ) as working:
        if disturb:
            threading.Thread(target=disturb, args=(working, out), daemon=True).start()
        working.work()
    times = Counter(episode_key(e) for path in out.glob("episodes*.jsonl") for e in read_episodes(path) if e["steps"])
    assert set(times) == set(keys) and set(times.values()) == {1}
    names = ("success", "latched", "steps", "outcome", "instruction")
    return {key: [e[name] for name in names] for key, e in read_all_episodes(out).items()}


@pytest.mark.slow
def test_killed_workers_and_a_killed_server_change_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_pool, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(worker_pool, "_KILLED", KILLS + 1)  # they may all come before the first episode
    killed = Counter()

    def disturb(working, out):
        """Every worker's first lives end after 0.3 to 2 s, so that all of them are over before a fast machine has finished."""
        rng = random.Random(0)
        ends = {}
        while sum(killed[n] for n in range(WORKERS)) < WORKERS * KILLS:
            time.sleep(0.02)
            if sum(killed.values()) == 8 and killed["server"] == 0:
                server.kill()
                killed["server"] += 1
                time.sleep(0.3)
                server.start()
            for place in working._places:
                if place.process is None or place.process.poll() is not None or killed[place.number] == KILLS:
                    continue
                end = ends.setdefault((place.number, place.process.pid), place.started + rng.uniform(0.3, 2.0))
                if time.time() > end:
                    place.process.kill()
                    place.process.wait()
                    killed[place.number] += 1
                    break

    disturbed = run(server, tmp_path / "disturbed", disturb)
    assert killed == {**dict.fromkeys(range(WORKERS), KILLS), "server": 1}
    peaceful = run(server, tmp_path / "peaceful")
    assert disturbed == peaceful
    rate = sum(success for success, *_ in peaceful.values()) / len(peaceful)
    assert 0.1 < rate < 0.95 and SeeingPolicy.metadata["horizon"] == 4  # episodes that could differ
