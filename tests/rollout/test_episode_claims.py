"""An episode is one process's at a time, whatever becomes of processes."""

import multiprocessing
import os
import signal
import time

import pytest

from drifting_vla_jax.rollout.episode_claims import MAX_ATTEMPTS, EpisodeQueue

SPAWN = multiprocessing.get_context("spawn")


def hold(path, index, seconds):
    """Claims an episode and keeps it."""
    with EpisodeQueue(path, 5).claim(index) as claim:
        assert claim is not None
        path.with_suffix(".held").touch()
        time.sleep(seconds)


@pytest.fixture
def held(tmp_path):
    """(path, process) of a queue whose episode 1 another process has."""
    path = tmp_path / "queue"
    process = SPAWN.Process(target=hold, args=(path, 1, 60))
    process.start()
    while not path.with_suffix(".held").exists():
        time.sleep(0.01)
    yield path, process
    process.kill()
    process.join()


def test_what_another_process_has_is_not_ours_and_all_else_is(held):
    queue = EpisodeQueue(held[0], 5)
    with queue.claim(1) as taken, queue.claim(2) as free:
        assert taken is None and free.deaths == 0


def test_what_a_killed_process_had_is_free_at_once_and_counted(held):
    path, process = held
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    queue = EpisodeQueue(path, 5)
    with queue.claim(1) as claim:
        assert claim.deaths == 1 and not claim.hopeless
    with queue.claim(1) as claim:
        assert claim.deaths == 0  # it was recorded


def test_an_error_is_no_death(tmp_path):
    queue = EpisodeQueue(tmp_path / "queue", 5)
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(ConnectionError), queue.claim(4) as claim:
            raise ConnectionError
    with queue.claim(4) as claim:
        assert claim.deaths == 0


def die(path, index):
    with EpisodeQueue(path, 5).claim(index):
        os._exit(1)


def test_an_episode_that_takes_too_many_processes_with_it_is_hopeless(tmp_path):
    path = tmp_path / "queue"
    for _ in range(MAX_ATTEMPTS):
        process = SPAWN.Process(target=die, args=(path, 4))
        process.start()
        process.join()
    queue = EpisodeQueue(path, 5)
    with queue.claim(4) as claim:
        assert claim.deaths == MAX_ATTEMPTS and claim.hopeless
    with queue.claim(4) as claim:
        assert not claim.hopeless


def test_there_is_nothing_beyond_the_list(tmp_path):
    with pytest.raises(IndexError, match="episode 5 of 5"), EpisodeQueue(tmp_path / "queue", 5).claim(5):
        pass
