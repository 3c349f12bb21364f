"""How commands end on bad input, many of them from one light process, by fork: prints {case: [exit code, stdout, stderr]}.

python tests/command_ends.py FOLDER
"""

import atexit
import json
import logging
import os
import runpy
import sys
import tempfile
import threading
import time

from tqdm import tqdm

from drifting_vla_jax.core import cli
from drifting_vla_jax.evaluate import table  # noqa: F401 - what several commands import is imported once
from drifting_vla_jax.rollout import runner  # noqa: F401

COMMANDS = ("rollout.worker", "robot", "evaluate.compare", "data.download", "envs.rlbench.check", "main")
BAD = ((), ("--no_such_flag=1",), ("--traceback=maybe",), ("--out=gs://bucket/x",), ("--workdir=~no-one/x",))


class _Loud:
    def __del__(self):
        raise ValueError("from a finaliser")


def _print_later():
    time.sleep(0.05)
    while True:
        print("a thread goes on", file=sys.stderr)
        time.sleep(0.001)


def _bar_in_a_loop(_):
    for step in tqdm(range(9), mininterval=0):
        if step == 5:
            raise ValueError("the bar is open")


def _half_a_line(_):
    _bar = tqdm(total=9)
    _bar.update(3)
    raise RuntimeError("two bars,\n\nthree lines\n")


def _loud_exit(_):
    atexit.register(lambda: print("a library says good-bye", file=sys.stderr))
    logging.getLogger("wandb").warning("before")
    globals()["loud"] = _Loud()
    raise OSError("the disk")


def _thread(_):
    threading.Thread(target=_print_later, daemon=True).start()
    time.sleep(0.1)
    raise ValueError("the main thread")


def _printed_to_nobody(_):
    print("x" * 100_000)


def _unprintable(_):
    print("caf\u00e9 \u2713")
    raise ValueError("error: caf\u00e9\x1b[2J\u202e\ud800 \u2028 next")


def _raises(error):
    def main(_):
        raise error

    return main


MAINS = {
    "bar in a loop": _bar_in_a_loop,
    "bar without end": _half_a_line,
    "loud exit": _loud_exit,
    "thread": _thread,
    "printed to nobody": _printed_to_nobody,
    "full disk": _printed_to_nobody,
    "unprintable": _unprintable,
    "no words": _raises(TimeoutError()),
    "no memory": _raises(MemoryError()),
    "library missing": _raises(ImportError("libGL.so.1: cannot open shared object file")),
    "no stderr": _raises(ValueError("x")),
    "interrupted": _raises(KeyboardInterrupt()),
    "returns": lambda _: 7,
    "fine": lambda _: print("done"),
}


def _stdout(case: str, file) -> int:
    if case == "full disk":
        return os.open("/dev/full", os.O_WRONLY)
    if case == "printed to nobody":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return file.fileno()


def end(case: str, work) -> list:
    """Exit code, stdout and stderr of ``work`` in a process of its own."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(_stdout(case, out), 1)
            os.dup2(err.fileno(), 2)
            encoding = "ascii" if case == "unprintable" else "utf-8"
            sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding=encoding, closefd=False)  # noqa: SIM115
            if case == "no stderr":
                sys.stderr = None
            work()
            raise AssertionError("a command ends by sys.exit")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (out, err):
            file.seek(0)
        return [code, out.read().decode(), err.read().decode()]


def _command(module: str, arguments: tuple[str, ...]) -> None:
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _own(main) -> None:
    sys.argv = ["command"]
    cli.run(main)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    ends = {case: end(case, lambda: _own(MAINS[case])) for case in MAINS}  # noqa: B023 - called here
    for name in COMMANDS:
        for bad in BAD:
            ends[" ".join((name, *bad))] = end("", lambda: _command(f"drifting_vla_jax.{name}", bad))  # noqa: B023
    print(json.dumps(ends))
