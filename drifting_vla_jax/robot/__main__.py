"""Runs episodes on a real arm.

    python -m drifting_vla_jax.robot --driver=my_arm:MyArm --server=ws://gpu-machine:8000 \\
        --instruction="open the drawer" --limits=limits.json --episodes=10 --out=runs/arm

    python -m drifting_vla_jax.robot --driver=my_arm:MyArm --check               # reads for 2 s, moves nothing
    python -m drifting_vla_jax.robot --driver=replay --episode=EPISODE.npz --server=... --limits=...   # dry run

The operator starts and ends an episode with Enter and then says whether it succeeded (--judge). OUT gets settings.json and
episodes.jsonl, as a simulator's does, so ``evaluate --out=OUT`` makes the table; --record keeps the episodes too.
Ctrl-C and SIGTERM stop the arm at once. docs/how-to/run-a-real-arm.md has the rules and a driver in twenty lines.

Exit code: 0 all episodes ran, or the check found nothing; 1 not so, one line says why; 2 bad flags; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from absl import flags

from drifting_vla_jax.core import cli, ranges, signals
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.robot import replay_driver
from drifting_vla_jax.robot.driver import Driver, make_driver
from drifting_vla_jax.robot.driver_check import check_driver
from drifting_vla_jax.robot.env import Robot
from drifting_vla_jax.robot.safety import SafetyLimits
from drifting_vla_jax.robot.session import AutomaticOperator, Operator, TerminalOperator, run_session
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.chunking.base import EXECUTIONS, RECEDING
from drifting_vla_jax.rollout.episode import EpisodeResult, EpisodeSettings
from drifting_vla_jax.rollout.runner import evaluation_identity
from drifting_vla_jax.rollout.settings import RECORDS
from drifting_vla_jax.rollout.trajectory_writer import RolloutsAbout
from drifting_vla_jax.wire.client import PolicyClient

FLAGS = flags.FLAGS
CHECK_SECONDS = 2.0
ANSWER_SECONDS = 10.0  # that a server may take; the arm has long been holding then


def define_flags() -> None:
    flags.DEFINE_string("driver", None, "module:Class of the arm's driver, or replay", required=True)
    flags.DEFINE_string("driver_options", "{}", "JSON object: what the driver's class is made with")
    cli.define_path("episode", None, "replay: an episode file, of data.export --format=episodes or recorded")
    flags.DEFINE_bool("check", False, "read for two seconds, say what was found and what is wrong; nothing moves")
    flags.DEFINE_string("server", None, "address of the policy server, ws://HOST:PORT")
    flags.DEFINE_string("instruction", None, "what the arm is asked to do (replay: the episode's)")
    cli.define_path("limits", None, "JSON file: low, high, step_m, step_deg, lead_m, timeout_s, stale_s")
    cli.define_path("out", None, "folder for episodes.jsonl and recorded episodes", writes="folder")
    flags.DEFINE_integer(
        "episodes", 1, "episodes of this folder, those of earlier starts included", *ranges.COUNT.bounds
    )
    flags.DEFINE_integer(
        "seed", 0, "of the first episode's policy noise; the i-th has seed + i", *ranges.FIRST_SEED.bounds
    )
    flags.DEFINE_integer("max_steps", 300, "control steps after which an episode ends", *ranges.COUNT.bounds)
    flags.DEFINE_enum("execution", "receding", EXECUTIONS, "how chunks are executed: rollout/chunking/base.py")
    flags.DEFINE_integer("execute", 8, "actions executed of each chunk before the policy is asked again", 1, 4096)
    flags.DEFINE_float(
        "ensemble_decay", 0.1, "ensemble: m; a prediction n steps old weighs exp(-m n)", *ranges.DECAY_RATE.bounds
    )
    flags.DEFINE_integer(
        "lead_steps", 3, "async: asks so many steps before --execute actions are done", *ranges.CONTROL_STEPS.bounds
    )
    flags.DEFINE_integer(
        "blend_steps", 1, "async: control steps from the old chunk to the new one", *ranges.CONTROL_STEPS.bounds
    )
    flags.DEFINE_float("control_hz", 0.0, "targets per second; 0: as the policy learned them", *ranges.HZ.bounds)
    flags.DEFINE_list("state", None, "names of the policy's state, where its server does not say them")
    flags.DEFINE_enum("fit", "crop", ["crop", "pad"], "how pictures become square: as in the training data")
    flags.DEFINE_string(
        "judge", "ask", "who says whether an episode succeeded: ask (the operator), none, or module:function"
    )
    flags.DEFINE_string("emergency", None, "module:function, true while an emergency button is pressed")
    flags.DEFINE_enum("record", "all", RECORDS, "episodes kept in OUT/rollouts, for data.export and data.build")
    flags.DEFINE_float("server_wait", 10.0, "seconds to wait for a server that is starting", *ranges.WAIT.bounds)
    flags.DEFINE_string("api_key_env", "DRIFTING_VLA_API_KEY", "environment variable that holds the API key")


def _function(flag: str, name: str) -> Callable:
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None) if module and attribute else None
    if not callable(found):
        raise ValueError(f"--{flag} is {name!r}; expected module:function")
    return found


def _driver() -> Driver:
    if FLAGS.driver == "replay":
        if not FLAGS.episode:
            raise ValueError("--driver=replay needs --episode=FILE.npz, of data.export --format=episodes or recorded")
        return replay_driver.ReplayDriver(Path(FLAGS.episode))
    if FLAGS.episode:
        raise ValueError(f"--episode is for --driver=replay, not for {FLAGS.driver}")
    try:
        options = json.loads(FLAGS.driver_options)
    except ValueError as error:
        raise ValueError(f"--driver_options is no JSON: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"--driver_options is {FLAGS.driver_options}; expected a JSON object")
    sys.path.insert(0, os.getcwd())  # where people keep their driver
    return make_driver(FLAGS.driver, options)


def _operator(driver: Driver) -> Operator:
    if isinstance(driver, replay_driver.ReplayDriver):
        return AutomaticOperator()
    if FLAGS.judge == "ask":
        if not sys.stdin.isatty():
            raise ValueError("--judge=ask needs a terminal; else give --judge=none or --judge=module:function")
        return TerminalOperator()
    return AutomaticOperator(None if FLAGS.judge == "none" else _function("judge", FLAGS.judge))


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[str, str], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP call ``stop(reason, outcome)`` at once, even while the main thread is inside a driver's
    call, and the first of them then raises KeyboardInterrupt there. Only from the main thread."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with signals.raised_once(), signals.heard(numbers, lambda n: stop(signal.Signals(n).name, "interrupted")):
        yield


def _state_names(metadata: dict) -> tuple[str, ...]:
    names = tuple(FLAGS.state or metadata.get("state_names", ()))
    if not names:
        raise ValueError(
            "the server does not say what the policy's state is made of; give --state=x,y,z,gripper or the like"
        )
    if len(names) != metadata["state_dim"]:
        raise ValueError(f"--state names {len(names)} numbers; the policy's state has {metadata['state_dim']}")
    return names


def _check(driver: Driver) -> None:
    limits = SafetyLimits.load(Path(FLAGS.limits)) if FLAGS.limits else None
    try:
        lines, problems = check_driver(driver, CHECK_SECONDS, limits, FLAGS.control_hz)
    finally:
        driver.close()
    print("\n".join(lines + [f"PROBLEM: {problem}" for problem in problems]))
    if problems:
        raise RuntimeError(f"{FLAGS.driver} has {len(problems)} problems")
    print("no problem found; whether the frame is the training data's, no program can tell")


def main(_) -> None:
    if FLAGS.check:
        return _check(_driver())
    for name in ("server", "limits", "out"):
        if not FLAGS[name].value:
            raise ValueError(f"--{name} is missing (--help explains it)")
    limits = SafetyLimits.load(Path(FLAGS.limits))
    with owned(FLAGS.out):
        _run(limits)
    print(summary(Path(FLAGS.out)))


def _run(limits: SafetyLimits) -> None:
    driver = _driver()
    try:
        robot, session = _prepare(driver, limits)
    except BaseException:
        driver.close()  # else the robot does
        raise
    with stop_on_signals(robot.stop), robot:
        ran = session()
    if isinstance(driver, replay_driver.ReplayDriver) and ran:
        print(replay_driver.report(driver))


def _prepare(driver: Driver, limits: SafetyLimits) -> tuple[Robot, Callable[[], list[EpisodeResult]]]:
    """The arm within its limits, and what runs its episodes."""
    out, replay = Path(FLAGS.out), driver if isinstance(driver, replay_driver.ReplayDriver) else None
    instruction = FLAGS.instruction or (replay.episode.instructions[0] if replay else "")
    if not instruction:
        raise ValueError("--instruction is missing: what the arm is asked to do")
    operator, key = _operator(driver), os.environ.get(FLAGS.api_key_env)

    def connect(wait: float = 0.0) -> PolicyClient:
        return PolicyClient(FLAGS.server, key, timeout=ANSWER_SECONDS, wait=wait)

    with connect(FLAGS.server_wait) as client:
        metadata = client.metadata
    how = {name: FLAGS[name].value for name in ("execution", "ensemble_decay", "lead_steps", "blend_steps")}
    execution = replace(RECEDING, **how)
    max_steps = min(FLAGS.max_steps, len(replay.episode)) if replay else FLAGS.max_steps
    settings = EpisodeSettings.for_policy(metadata, FLAGS.execute, max_steps, 1, execution)
    hz, names = FLAGS.control_hz or metadata["control_hz"], _state_names(metadata)
    said = {"instruction": instruction, "limits": asdict(limits), "fit": FLAGS.fit, "control_hz": hz}
    identity = evaluation_identity(metadata, FLAGS.driver, FLAGS.seed, settings, 1, said, FLAGS.record)
    episode_log.claim_folder(out, json.loads(json.dumps(identity)))
    robot = Robot(
        driver,
        limits,
        instruction=instruction,
        cameras=metadata["cameras"],
        image_size=metadata["image_size"],
        control_hz=hz,
        state_names=names,
        fit=FLAGS.fit,
        emergency=_function("emergency", FLAGS.emergency) if FLAGS.emergency else None,
    )
    about = RolloutsAbout.of(metadata, FLAGS.driver, names, hz)
    how = {"episodes": FLAGS.episodes, "seed": FLAGS.seed, "out": out, "record": FLAGS.record, "about": about}
    return robot, functools.partial(run_session, robot, connect, settings, operator, **how)


def summary(out: Path) -> str:
    """One line: what became of all the episodes in OUT."""
    episodes = list(episode_log.read_all_episodes(out).values())
    judged = [episode for episode in episodes if episode["success"] is not None]
    line = f"{sum(episode['success'] for episode in judged)} of {len(judged)} judged episodes succeeded"
    others = len(episodes) - len(judged)
    return line + (f"; {others} more were not judged, and are in no rate" if others else "")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
