"""Runs episodes in a simulator against a policy server, and leaves a line per episode.

    python -m drifting_vla_jax.rollout.worker --server=ws://127.0.0.1:8000 --env=SIMULATOR \\
        --tasks=door-open,drawer-close --episodes=20 --seed=1000 --out=runs/door

OUT/episodes.jsonl gets a line per episode, OUT/videos the first --videos of every task. The i-th episode of a task has
seed S + i, whatever the policy. Finished episodes are skipped on the next start. Several processes share a list if each has
a --worker=I of its own: any number may be started, killed and started again, every episode is run by one of them. Success
is held: true for --hold_steps control steps in a row.

Where a simulator has stored episodes, --demos=SPLIT is a folder of them: the i-th episode starts as stored episode S + i did.
--replay asks no policy, repeats what was recorded there and prints the success that the data itself reaches: run it before
you train.

    python -m drifting_vla_jax.rollout.worker --replay --env=SIMULATOR --demos=SPLIT \\
        --tasks=... --episodes=2 --hold_steps=1 --out=runs/replay

The process imports none of jax, flax, tensorflow and torch: a simulator's own Python will do.
Exit code: 0 all episodes are recorded; 1 the server, the simulator or the disk failed; 2 bad input. One line says why.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.settings import defaults
from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.base import EnvError
from drifting_vla_jax.rollout import settings
from drifting_vla_jax.rollout.demo_replay import Replayer, summary
from drifting_vla_jax.rollout.runner import Worker, WorkerSettings, run
from drifting_vla_jax.rollout.settings import RolloutSettings, Simulation
from drifting_vla_jax.wire.client import PolicyServerError

API_KEY_VARIABLE = "DRIFTING_VLA_API_KEY"

_SERVER = flags.DEFINE_string("server", None, "Address of the policy server, ws://HOST:PORT.")
_OUT = cli.define_path("out", None, "Folder for episodes.jsonl and videos.", writes="folder")
_SETTINGS = flags.DEFINE_string(
    "settings", "", "All of the following that are settings, as JSON or a file of it: rollout/settings.py."
)
_ROLLOUT = cli.define_settings(RolloutSettings)
_SIMULATION = cli.define_settings(Simulation)
_OPTIONS = [
    cli.define_settings(own, given_only=True)
    for name in registry.ENVIRONMENTS
    if (own := registry.settings_class(name))
]
_VIDEO_SIZE = flags.DEFINE_integer(
    "video_size", 384, "Height and width of the videos' picture, pixels.", 32, ranges.PIXELS.high
)
_WORKER = flags.DEFINE_integer("worker", 0, "This process's number among those that share OUT.", *ranges.SEVERAL.bounds)
_SERVER_WAIT = flags.DEFINE_float(
    "server_wait", 10.0, "Seconds to wait for a server that is starting.", *ranges.WAIT.bounds
)
_API_KEY_ENV = flags.DEFINE_string("api_key_env", API_KEY_VARIABLE, "Environment variable that holds the API key.")
_REPLAY = flags.DEFINE_bool("replay", False, "Repeat the stored episodes of --demos instead of asking a policy.")


def settings_from_flags() -> WorkerSettings:
    """What the command line says; a flag of its own goes before --settings.

    Raises:
      ValueError: a flag is missing or cannot be.
    """
    given = settings.given(_SETTINGS.value)
    rollout = defaults(RolloutSettings) | given["rollout"] | _present(_ROLLOUT)
    simulation = {"options": {}} | defaults(Simulation) | given["simulation"] | _present(_SIMULATION)
    needed = {"demos": rollout["demos"]} if _REPLAY.value else {"server": _SERVER.value}
    for name, value in {**needed, "env": simulation["env"], "tasks": simulation["tasks"], "out": _OUT.value}.items():
        if not value:
            raise ValueError(f"--{name} is missing (--help explains it)")
    if rollout["demos"] and "variations" in _present(_SIMULATION):
        raise ValueError("--variations and --demos exclude each other: a stored episode has its own variation")
    simulation["variations"] = tuple(_whole(v) for v in simulation["variations"])
    simulation["options"] = {**simulation["options"], **{k: v for own in _OPTIONS for k, v in _present(own).items()}}
    return WorkerSettings(
        *settings.of_values(rollout, simulation),
        server=_SERVER.value or "",
        out=Path(_OUT.value),
        worker=_WORKER.value,
        server_wait=_SERVER_WAIT.value,
        api_key=os.environ.get(_API_KEY_ENV.value),
        video_size=_VIDEO_SIZE.value,
    )


def _present(defined: Mapping[str, flags.FlagHolder]) -> dict[str, Any]:
    return {name: flag.value for name, flag in defined.items() if flag.present}


def _whole(text: str | int) -> int:
    if not str(text).isdecimal() or len(str(text)) > 9:
        raise ValueError(f"--variations is {text!r}; expected whole numbers, separated by commas")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """The process boundary: every foreseen failure becomes one line and an exit code."""
    logging.set_verbosity(logging.INFO)
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}; every option is --NAME=VALUE")
        asked = settings_from_flags()
        unscored = run(asked, Replayer if _REPLAY.value else Worker)
        if _REPLAY.value:
            print(summary(asked))
    except ValueError as error:
        return _failed(error, 2)
    except (PolicyServerError, OSError, ImportError, EnvError) as error:  # ConnectionError is an OSError
        return _failed(error, 1)
    except KeyboardInterrupt:
        return _failed("interrupted; the same command goes on from here", 130)
    if unscored:
        logging.warning("%d episodes stay unscored (env_crash); the same command tries them again", unscored)
    return 0


def _failed(reason: object, code: int) -> int:
    cli.say_error(reason)
    return code


if __name__ == "__main__":
    cli.run(main)
