"""Runs episodes in a simulator against a policy server, and leaves a line per episode.

    python -m drifting_vla_jax.rollout.worker --server=ws://127.0.0.1:8000 --env=metaworld \\
        --tasks=door-open,drawer-close --episodes=20 --seed=1000 --out=runs/door

OUT/episodes.jsonl gets a line per episode, OUT/videos the first --videos of every task. The i-th episode of a task has
seed S + i, whatever the policy. Finished episodes are skipped on the next start. Several processes share a list if each has
a --worker=I of its own: any number may be started, killed and started again, every episode is run by one of them. Success
is held: true for --hold_steps control steps in a row.

RLBench: with --demos=SPLIT, a folder of stored episodes, the i-th episode starts as stored episode S + i did. --replay asks
no policy, repeats what was recorded there and prints the success that the data itself reaches: run it before you train.

    python -m drifting_vla_jax.rollout.worker --replay --env=rlbench --demos=data/rlbench/train \\
        --tasks=open_drawer,push_buttons --episodes=2 --hold_steps=1 --out=runs/replay

The process imports none of jax, flax, tensorflow and torch: a simulator's own Python will do.
Exit code: 0 all episodes are recorded; 1 the server, the simulator or the disk failed; 2 bad input. One line says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.base import EnvError
from drifting_vla_jax.rollout.chunking.base import EXECUTIONS, Execution
from drifting_vla_jax.rollout.demo_replay import Replayer, summary
from drifting_vla_jax.rollout.runner import Worker, WorkerSettings, run
from drifting_vla_jax.rollout.trajectory_writer import RECORDS
from drifting_vla_jax.wire.client import PolicyServerError

API_KEY_VARIABLE = "DRIFTING_VLA_API_KEY"

_SERVER = flags.DEFINE_string("server", None, "Address of the policy server, ws://HOST:PORT.")
_ENV = flags.DEFINE_string(
    "env", None, f"The simulator: {', '.join(registry.ENVIRONMENTS)}, or an import path, my_lab.my_sim:MySim."
)
_TASKS = flags.DEFINE_list("tasks", None, "Tasks, separated by commas.")
_EPISODES = flags.DEFINE_integer("episodes", 20, "Episodes of every task.", *ranges.COUNT.bounds)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of every task's first episode; choose one that no demonstration used.", *ranges.FIRST_SEED.bounds
)
_OUT = cli.define_path("out", None, "Folder for episodes.jsonl and videos.", writes="folder")
_EXECUTE = flags.DEFINE_integer(
    "execute", 8, "Actions executed of each chunk before the policy is asked again.", 1, 4096
)
_EXECUTION = flags.DEFINE_enum(
    "execution", "receding", EXECUTIONS, "How chunks are executed: rollout/chunking/base.py."
)
_ENSEMBLE_DECAY = flags.DEFINE_float(
    "ensemble_decay", 0.1, "ensemble: m; a prediction n steps old weighs exp(-m n).", *ranges.DECAY_RATE.bounds
)
_LEAD_STEPS = flags.DEFINE_integer(
    "lead_steps", 1, "async: asks so many steps before --execute actions are done.", *ranges.CONTROL_STEPS.bounds
)
_DELAY_STEPS = flags.DEFINE_integer(
    "delay_steps", 1, "async: control steps that an answer takes.", *ranges.CONTROL_STEPS.bounds
)
_BLEND_STEPS = flags.DEFINE_integer(
    "blend_steps", 1, "async: control steps from the old chunk to the new one.", *ranges.CONTROL_STEPS.bounds
)
_HOLD_LAST = flags.DEFINE_bool("hold_last", False, "async: where an answer comes too late, hold the last target.")
_MAX_STEPS = flags.DEFINE_integer(
    "max_steps", 200, "Control steps after which an episode has failed.", *ranges.COUNT.bounds
)
_HOLD_STEPS = flags.DEFINE_integer(
    "hold_steps", 10, "Control steps in a row that the task must stay solved.", *ranges.COUNT.bounds
)
_FRAME_SKIP = flags.DEFINE_integer(
    "frame_skip", 0, "Simulator steps per action; 0 as the policy was trained.", 0, ranges.FRAME_SKIP.high
)
_VARIATIONS = flags.DEFINE_list("variations", ["0"], "Task variations that the episodes take in turn.")
_VIDEOS = flags.DEFINE_integer("videos", 0, "Record the first N episodes of every task.", *ranges.SEVERAL.bounds)
_VIDEO_CAMERA = flags.DEFINE_string("video_camera", "", "The view of the videos; the policy's first camera if empty.")
_VIDEO_SIZE = flags.DEFINE_integer(
    "video_size", 384, "Height and width of the videos' picture, pixels.", 32, ranges.PIXELS.high
)
_RECORD = flags.DEFINE_enum("record", "none", RECORDS, "Episodes kept in OUT/rollouts, for data.export and data.build.")
_WORKER = flags.DEFINE_integer("worker", 0, "This process's number among those that share OUT.", *ranges.SEVERAL.bounds)
_SERVER_WAIT = flags.DEFINE_float(
    "server_wait", 10.0, "Seconds to wait for a server that is starting.", *ranges.WAIT.bounds
)
_API_KEY_ENV = flags.DEFINE_string("api_key_env", API_KEY_VARIABLE, "Environment variable that holds the API key.")

_REPLAY = flags.DEFINE_bool("replay", False, "Repeat the stored episodes of --demos instead of asking a policy.")
_DEMOS = cli.define_path("demos", None, "rlbench: a split of stored episodes to start from.")
_OPTIONS = [
    cli.define_settings(own, given_only=True)
    for name in registry.ENVIRONMENTS
    if (own := registry.settings_class(name))
]


def settings_from_flags() -> WorkerSettings:
    """What the command line says.

    Raises:
      ValueError: a flag is missing or cannot be.
    """
    for flag in (_DEMOS if _REPLAY.value else _SERVER, _ENV, _TASKS, _OUT):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing (--help explains it)")
    if _DEMOS.value and _VARIATIONS.present:
        raise ValueError("--variations and --demos exclude each other: a stored episode has its own variation")
    if not all(v.isdecimal() and len(v) < 10 for v in _VARIATIONS.value) or not _VARIATIONS.value:
        raise ValueError(
            f"--variations is {','.join(_VARIATIONS.value)!r}; expected whole numbers, separated by commas"
        )
    every = [flag for of_simulator in _OPTIONS for flag in of_simulator.values()]
    env_options = {flag.name: flag.value for flag in (_DEMOS, *every) if flag.value is not None}
    return WorkerSettings(
        server=_SERVER.value or "",
        env=_ENV.value,
        tasks=tuple(dict.fromkeys(_TASKS.value)),
        episodes=_EPISODES.value,
        seed=_SEED.value,
        out=Path(_OUT.value),
        execute=_EXECUTE.value,
        max_steps=_MAX_STEPS.value,
        hold_steps=_HOLD_STEPS.value,
        frame_skip=_FRAME_SKIP.value,
        variations=tuple(int(v) for v in _VARIATIONS.value),
        videos=_VIDEOS.value,
        video_camera=_VIDEO_CAMERA.value,
        video_size=_VIDEO_SIZE.value,
        record=_RECORD.value,
        worker=_WORKER.value,
        execution=Execution(
            execution=_EXECUTION.value,
            ensemble_decay=_ENSEMBLE_DECAY.value,
            lead_steps=_LEAD_STEPS.value,
            delay_steps=_DELAY_STEPS.value,
            blend_steps=_BLEND_STEPS.value,
            hold_last=_HOLD_LAST.value,
        ),
        server_wait=_SERVER_WAIT.value,
        api_key=os.environ.get(_API_KEY_ENV.value),
        env_options=env_options,
    )


def main(argv: Sequence[str]) -> int:
    """The process boundary: every foreseen failure becomes one line and an exit code."""
    logging.set_verbosity(logging.INFO)
    try:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}; every option is --NAME=VALUE")
        settings = settings_from_flags()
        unscored = run(settings, Replayer if _REPLAY.value else Worker)
        if _REPLAY.value:
            print(summary(settings))
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
