"""The package's commands in processes of their own, forked from one that has imported JAX already: it takes seconds to import.

What starts lightly, or reads its environment when it is imported, is started anew: ``subprocess`` in the test itself.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "jax",
    "flax.linen",
    "optax",
    "orbax.checkpoint",
    "grain.python",
    "tensorflow_datasets",
    "matplotlib.pyplot",
)
_FORKS = multiprocessing.get_context("forkserver")


def _command(module: str, arguments: tuple[str, ...], cwd: str, out: str, err: str) -> None:
    """In the child: what ``python -m module`` does, with stdout and stderr in files."""
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        with open(path, "w") as file:
            os.dup2(file.fileno(), number)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run(module: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """``python -m module arguments`` in ``cwd``: its exit code, and its stdout and stderr as text."""
    _FORKS.set_forkserver_preload(list(IMPORTED))
    words = tuple(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        out, err = (os.path.join(folder, name) for name in ("out", "err"))
        process = _FORKS.Process(target=_command, args=(module, words, str(cwd), out, err))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired((module, *words), 120)
        said = [Path(path).read_text() for path in (out, err)]
    return subprocess.CompletedProcess((module, *words), process.exitcode, *said)
