"""A peer: another program that does our work, in its own process and its own Python.

    --peers=original=/path/to/python:/path/to/checkout,torch-encoders=/path/to/python

The process is ``PYTHON tests/benchmarks/peers/SCRIPT.py [CHECKOUT]``. It reads one JSON object a line and answers with one:

    {"prepare": KEY, "work": NAME, "options": {...}}  ->  {"ready": {what it found out}}
    {"run": KEY}                                      ->  {"seconds": how long one run took}
    any of them                                       ->  {"error": why not}

The scripts stand outside this package, as what they import does: the other Python runs them, and nothing here imports them
(``line.py`` beside them is their half of the protocol).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drifting_vla_jax.core import paths

SCRIPTS = Path(__file__).parents[2] / "tests" / "benchmarks" / "peers"
KNOWN: Mapping[str, str] = {
    "original": "the PyTorch project that this one re-imagines; python:checkout",
    "torch-encoders": "Hugging Face's DINOv2 and CLIP; python with torch and transformers",
    "official-loss": "drift_loss.py of the authors of drifting; python with jax:that file",
    "drift-models": "drifting losses in PyTorch from PyPI; python with drift-models",
    "lerobot": "LeRobot's reader of data sets; python with lerobot",
}


class PeerError(RuntimeError):
    """A peer that cannot do its work; the message is its reason, one line."""


@dataclass(frozen=True)
class Where:
    """A peer's Python, and what its script is told to measure (a checkout, a file), if anything."""

    python: str
    checkout: str | None = None


def parse(options: Sequence[str]) -> dict[str, Where]:
    """``name=python[:checkout]`` -> where each is.

    Raises:
      ValueError: another form, an unknown name, or no such Python.
    """
    found = {}
    for option in options:
        name, _, rest = option.partition("=")
        python, _, checkout = rest.partition(":")
        if name not in KNOWN:
            raise ValueError(f"--peers: unknown peer {name!r}; known are {', '.join(KNOWN)}")
        python, checkout = (paths.user_path(part) if part else "" for part in (python, checkout))
        if not Path(python).is_file():
            raise ValueError(
                f"--peers: {name}={rest}: expected {name}=PYTHON[:CHECKOUT]; there is no program {python!r}"
            )
        found[name] = Where(python, checkout or None)
    return found


class Peer:
    """One peer's process. What fails raises ``PeerError``; the process ends with ``close``."""

    def __init__(self, command: Sequence[str], timeout: float = 900.0):
        """Args:
        command: of the process.
        timeout: seconds that it may take for one answer.
        """
        self._timeout, self._answers = timeout, queue.Queue()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        env.pop("PYTHONPATH", None)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=env)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, **message) -> dict:
        """Sends one message, returns the answer.

        Raises:
          PeerError: the peer says no, says nothing for too long, or is gone.
        """
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=self._timeout)
        except (BrokenPipeError, ValueError):
            line = ""
        except queue.Empty:
            self.close()
            raise PeerError(f"no answer within {self._timeout:g} s") from None
        if not line:
            raise PeerError(f"its process ended ({self._last_words()})")
        try:
            answer = json.loads(line)
        except ValueError:
            raise PeerError(f"it said {line.strip()[:200]!r}, which is not the protocol") from None
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def prepare(self, key: str, work: str, **options) -> dict:
        """Makes a piece of work ready under ``key``; returns what the peer found out about it."""
        return self.ask(prepare=key, work=work, options=options)["ready"]

    def run(self, key: str) -> float:
        """Does it once; seconds."""
        return float(self.ask(run=key)["seconds"])

    def _last_words(self) -> str:
        code = self._process.wait(10)
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return f"exit status {code}: {lines[-1][:300] if lines else 'without a word'}"

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Peers:
    """The peers that were given, each started when first needed."""

    def __init__(self, where: Mapping[str, Where]):
        self._where, self._open = where, {}

    def start(self, name: str) -> Peer:
        """The peer's process.

        Raises:
          PeerError: it was not given.
        """
        if name not in self._where:
            raise PeerError(f"not given (--peers={name}=...: {KNOWN[name]})")
        if name not in self._open:
            where = self._where[name]
            if not SCRIPTS.is_dir():
                raise PeerError(f"its script comes with a checkout of this project; there is no {SCRIPTS}")
            script = SCRIPTS / f"{name.replace('-', '_')}_peer.py"
            more = [where.checkout] if where.checkout else []
            self._open[name] = Peer([where.python, str(script), *more])
        return self._open[name]

    def stop(self, name: str) -> None:
        """Ends a peer's process and frees its memory; ``start`` starts it anew."""
        if name in self._open:
            self._open.pop(name).close()

    def close(self) -> None:
        for name in list(self._open):
            self.stop(name)


@contextlib.contextmanager
def peers(where: Mapping[str, Where]) -> Iterator[Peers]:
    """The peers, whose processes end with the block."""
    group = Peers(where)
    try:
        yield group
    finally:
        group.close()
