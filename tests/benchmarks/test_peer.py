"""A peer is a process that answers line by line; what goes wrong with it has a reason and no traceback."""

import sys
import textwrap

import pytest

from drifting_vla_jax.benchmarks.peer import KNOWN, SCRIPTS, Peer, PeerError, Peers, Where, parse
from drifting_vla_jax.benchmarks.timing import Case, Skipped, contest, of_peer

WORK = """
import line, time

def steady(seconds=0.0):
    print("libraries talk")
    return (lambda: float(seconds)), {"library": "1.0"}

def sleepy():
    return lambda: time.sleep(0.01)

def broken():
    raise ImportError("no library\\nhere")

def dies():
    import os
    return lambda: os._exit(3)

def tires(after):
    left = [after]
    def run():
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError("out of memory")
        return 1.0
    return run

line.serve({"steady": steady, "sleepy": sleepy, "broken": broken, "dies": dies, "tires": tires})
"""


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """The peer "original" is the script above, run by this Python."""
    (tmp_path / "original_peer.py").write_text(textwrap.dedent(WORK))
    (tmp_path / "line.py").write_text((SCRIPTS / "line.py").read_text())
    monkeypatch.setattr("drifting_vla_jax.benchmarks.peer.SCRIPTS", tmp_path)
    group = Peers({"original": Where(sys.executable)})
    yield group
    group.close()


def test_a_peer_says_what_it_is_and_how_long_it_took(peers):
    peer = peers.start("original")
    assert peer.prepare("a", "steady", seconds=2.5) == {"library": "1.0"}
    assert peer.run("a") == 2.5
    peer.prepare("b", "sleepy")
    assert 0.01 <= peer.run("b") < 1.0 and peer.run("a") == 2.5


@pytest.mark.parametrize(
    ("work", "reason"),
    [("broken", "ImportError: no library here"), ("unheard of", "this peer does no 'unheard of'")],
)
def test_what_cannot_be_prepared_is_named_with_its_reason(peers, work, reason):
    row = of_peer(peers, "original", "row", work)
    assert row == Skipped("row", reason)
    assert of_peer(peers, "original", "other", "sleepy").name == "other"  # the process goes on


def test_a_peer_that_was_not_given_is_named(peers):
    row = of_peer(peers, "drift-models", "drift-models", "loss")
    assert isinstance(row, Skipped) and "not given" in row.reason


def test_runs_alternate_and_a_peer_that_fails_leaves_the_others(peers):
    order = []

    def ours() -> float:
        order.append("ours")
        return 0.5

    tires = of_peer(peers, "original", "tires", "tires", after=2)
    dies = of_peer(peers, "original", "dies", "dies")
    steady = of_peer(Peers({}), "original", "nobody", "steady")
    found = contest("work", [Case("ours", ours), tires, dies, steady], rounds=3)
    assert [row.name for row in found.rows] == ["ours"] and found["ours"].run_s == (0.5, 0.5, 0.5)
    assert len(order) == 4  # a warm-up
    reasons = {absent.name: absent.reason for absent in found.absent}
    assert list(reasons) == ["tires", "dies", "nobody"]
    assert "exit status 3" in reasons["dies"] and "its process ended" in reasons["tires"]


def test_paired_runs_come_in_turn(peers):
    row = of_peer(peers, "original", "peer", "steady", seconds=3.0, note="a note")
    found = contest("work", [Case("ours", lambda: 1.5), row], rounds=2)
    assert found["peer"].run_s == (3.0, 3.0) and found["ours"].speedup_over(found["peer"]) == 2.0
    assert found["peer"].note == "a note; library 1.0"


def test_silence_is_bounded():
    with pytest.raises(PeerError, match=r"no answer within 0.1 s"):
        Peer([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.1).run("a")


def test_nonsense_is_no_answer():
    with pytest.raises(PeerError, match="not the protocol"):
        Peer([sys.executable, "-c", "print('hello', flush=True); input()"]).run("a")


def test_where_peers_are(tmp_path):
    assert parse([f"original={sys.executable}:{tmp_path}", f"drift-models={sys.executable}"]) == {
        "original": Where(sys.executable, str(tmp_path)),
        "drift-models": Where(sys.executable),
    }
    for wrong, message in (("nobody=python", "unknown peer 'nobody'"), ("original=nowhere", "no program 'nowhere'")):
        with pytest.raises(ValueError, match=message):
            parse([wrong])


def test_every_known_peer_has_a_script():
    assert {path.name for path in SCRIPTS.glob("*_peer.py")} == {f"{n.replace('-', '_')}_peer.py" for n in KNOWN}
