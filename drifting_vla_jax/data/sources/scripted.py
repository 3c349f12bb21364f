"""Demonstrations from a simulator's own scripted experts, checked by replaying them.

For every task and index an episode is recorded from a scene that is a function of (seed, task, index): the hand starts
displaced, noise is added to the expert's commands, and what was ACHIEVED is written down: ``actions[t]`` is the hand's
pose one control step after row t and, where it pressed, beyond (``ScriptedEnv.target``), with the gripper command that was
held during that step. An episode is kept when success has held for ``hold_steps`` control steps; a failed one is counted
and the index tried again in another scene.

The gate: every recorded episode is replayed, open loop, through the simulator's ``step`` from the same start. If the absolute
targets do not lead to success again, no policy that predicts them perfectly could succeed, and the build refuses.

    OUT/.episodes/settings.json        what the episodes there were made with
    OUT/.episodes/<task>/<index>.npz   one data.episodes.Episode each, written as it is finished: a second start skips it
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import importlib.metadata
import json
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from drifting_vla_jax.core.episode import Episode, encode_png
from drifting_vla_jax.core.ranges import COUNT, FIRST_SEED, FRAME_SKIP, PROCESSES, Many, Name, Number, whole
from drifting_vla_jax.core.settings import Option
from drifting_vla_jax.data.sources.base import VAL_FRACTION, check_fraction
from drifting_vla_jax.data.sources.splits import claim, held_out_count
from drifting_vla_jax.envs.base import EnvCrashError, ScriptedEnv, check_task_name, random_generator
from drifting_vla_jax.envs.registry import info, make

# A success that is passed through in a moment is only caught by stopping soon, or at once, or with an expert held back to a
# share of its pace: attempts at an episode go through the settings' ``settle_steps``, then these, in turn. (handle-press, 12
# scenes: none at full pace, all at this one. stick-pull failed in seven slow attempts running: they take turns.)
LATER_ATTEMPTS = ((2, 1.0), (1, 1.0), (1, 0.3))
FASTEST = 2.5  # m/s; experts stay below 1.3, but a handle that slips away throws the hand, and nobody should learn that
RECORDER = 6  # raised when the same settings would give other episodes: a change of `record`, of a reset or of control
MAX_ATTEMPTS = 20  # scenes per index before the expert is given up on
SEEDS_PER_ATTEMPT = 100_000  # so at most this many episodes per task
SEEDS_PER_COLLECTION = MAX_ATTEMPTS * SEEDS_PER_ATTEMPT


class ReplayGateError(ValueError):
    """Replaying the recorded targets did not reproduce success often enough."""


@dataclass(frozen=True)
class CollectSettings:
    """What to record. What ``recorded`` returns changes the episodes themselves; the rest may differ between two starts.

    ``simulator``: of ``envs.registry``, one with scripted experts. The scenes' seeds begin at ``seed *
    SEEDS_PER_COLLECTION``.
    """

    tasks: Annotated[tuple[str, ...], Many(Name()), Option(None, "names of tasks, comma-separated, or all")]
    episodes: Annotated[int, whole(1, SEEDS_PER_ATTEMPT), Option(40, "good episodes per task, validation included")]
    cameras: Annotated[tuple[str, ...], Many(Name()), Option(None, "views, in order")]
    image_size: Annotated[int, whole(8, 4096), Option(None, "height and width of every view, pixels")]
    frame_skip: Annotated[int, FRAME_SKIP, Option(None, "simulator steps per control step")]
    action_noise: Annotated[
        float,
        Number(0.0, 10.0),
        Option(
            None,
            "standard deviation of the noise on the expert's commands. Experts that command velocities: of each of dx dy dz (in "
            "-1 .. 1) at every simulator step. Experts that command poses: centimetres, and as many times 3 degrees, of every "
            "control step's target",
        ),
    ]
    hold_steps: Annotated[int, COUNT, Option(12, "control steps that success must hold before an episode ends")]
    settle_steps: Annotated[
        int,
        COUNT,
        Option(
            2,
            "control steps of success for which the expert goes on before it holds still. Few make success safe; more lead to "
            "the middle of the goal and not just across its border",
        ),
    ]
    seed: Annotated[int, FIRST_SEED, Option(0, "of the scenes and the noise")]
    val_fraction: Annotated[
        float,
        Number(0.0, 1.0, "[)"),
        Option(VAL_FRACTION, "share of each task's episodes, the last ones, held out to validate"),
    ]
    gate: Annotated[
        float, Number(0.0, 1.0), Option(0.95, "least share of a task's episodes whose replayed targets must succeed")
    ]
    workers: Annotated[int, PROCESSES, Option(2, "processes, each with a simulator of its own; 1: this process")]
    simulator: str

    def __post_init__(self):
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks must be one or more different names; got {', '.join(self.tasks) or 'none'}")
        for task in self.tasks:
            check_task_name(task, info(self.simulator).tasks, self.simulator)
        if not 1 <= self.episodes <= SEEDS_PER_ATTEMPT:
            raise ValueError(f"episodes must be in 1 .. {SEEDS_PER_ATTEMPT}; got {self.episodes}")
        check_fraction(self.val_fraction)
        if min(self.hold_steps, self.settle_steps, self.workers) < 1 or self.action_noise < 0:
            raise ValueError(
                f"hold_steps {self.hold_steps}, settle_steps {self.settle_steps} and workers {self.workers} must be at least "
                f"1, action_noise {self.action_noise} at least 0"
            )

    @property
    def validation_episodes(self) -> int:
        """Episodes of each task in the validation split."""
        return held_out_count(self.episodes, self.val_fraction)

    def split(self, index: int) -> str:
        """Returns "train" or "val" for the episode of this index."""
        return "val" if index >= self.episodes - self.validation_episodes else "train"

    @property
    def manners(self) -> tuple[tuple[int, float], ...]:
        """Steps to settle for, and pace, of the first attempt, the second, ..., over and over."""
        return ((self.settle_steps, 1.0), *(m for m in LATER_ATTEMPTS if m[0] < self.settle_steps or m[1] < 1))

    def start(self) -> ScriptedEnv:
        """Returns the simulator, with the settings' cameras."""
        views = {"cameras": self.cameras, "image_size": self.image_size}
        return make(self.simulator, **views, frame_skip=self.frame_skip)  # pyright: ignore[reportReturnType]

    def recorded(self) -> dict[str, object]:
        """Returns what an episode's contents depend on, ready for JSON."""
        keys = ("cameras", "image_size", "frame_skip", "action_noise", "hold_steps", "settle_steps", "seed")
        values = {k: getattr(self, k) for k in keys}
        packages = info(self.simulator).packages
        versions = {f"{p}_version": importlib.metadata.version(p) for p in packages}
        return json.loads(json.dumps(values | versions | {"recorder": RECORDER}))


@dataclass(frozen=True)
class TaskReport:
    """One task's figures: kept and failed expert episodes, how many replays succeeded, mean length in control steps."""

    task: str
    kept: int
    failed: int
    replayed: int
    mean_length: float


@dataclass(frozen=True)
class CollectReport:
    """All tasks' figures, and how long this start took (seconds) for how many newly recorded episodes."""

    tasks: tuple[TaskReport, ...]
    recorded: int
    seconds: float


def episode_path(out: Path, task: str, index: int) -> Path:
    return out / ".episodes" / task / f"{index:05d}.npz"


def read_episodes(settings: CollectSettings, out: Path, split: str) -> Iterator[Episode]:
    """Yields the finished episodes of one split, task by task, in order."""
    for task in settings.tasks:
        for index in range(settings.episodes):
            if settings.split(index) == split:
                yield Episode.load(episode_path(out, task, index))


def record(
    env: ScriptedEnv, settings: CollectSettings, task: str, seed: int, settle: int, pace: float = 1.0
) -> Episode | None:
    """Lets the expert act once; returns the episode, or None if it failed or the hand was thrown (``FASTEST``). ``env`` has
    the settings' cameras; ``pace`` is a share of the expert's own.

    The experts never stop: many push on until they have left success behind. So once success has lasted for ``settle``
    control steps the hand is kept where it is, pressing as it did, for as long as success lasts.
    """
    if settings.cameras and _act(env, settings, task, seed, settle, pace, cameras=()) is None:
        return None  # found out without drawing it, which is nine tenths of the time
    return _act(env, settings, task, seed, settle, pace, settings.cameras)


def _act(
    env: ScriptedEnv, settings: CollectSettings, task: str, seed: int, settle: int, pace: float, cameras
) -> Episode | None:
    """``record``, with the pictures of some of the cameras; what happens is the same with any."""
    env.reset_displaced(task, 0, seed)
    noise = random_generator(seed, "action noise")
    images: dict[str, list[bytes]] = {camera: [] for camera in cameras}
    states, actions, held, done = [], [], 0, False
    while held < settings.hold_steps:
        if done:
            return None
        observation = env.observe(render=bool(cameras))
        states.append(observation.state)
        for camera, frames in images.items():
            frames.append(encode_png(observation.images[camera]))
        success, done, gripper = env.act(noise, settings.action_noise, rest=held >= settle, pace=pace)
        actions.append(np.append(env.target(), gripper))
        if env.control_hz * np.linalg.norm(env.pose()[:3] - states[-1][:3]) > FASTEST:
            return None
        held = held + 1 if success else 0
    return Episode(
        task=task,
        variation=0,
        seed=seed,
        instructions=env.instructions(task),
        images=images,
        state=np.array(states, np.float32),
        actions=np.array(actions, np.float32),
    )


def replay(env: ScriptedEnv, episode: Episode, hold_steps: int) -> bool:
    """Whether the recorded targets, sent open loop and without rendering, lead to success held for ``hold_steps``.

    The last target is repeated for up to ``hold_steps`` more: a push that arrives a step late is still the same push.
    """
    env.reset_displaced(episode.task, episode.variation, episode.seed)
    held = 0
    for action in [*episode.actions, *[episode.actions[-1]] * hold_steps]:
        step = env.step(action, render=False)
        held = held + 1 if step.success else 0
        if held == hold_steps or step.done:
            break
    return held == hold_steps


@dataclass(frozen=True)
class _Outcome:
    task: str
    length: int
    failed: int
    replayed: bool
    new: bool


def _finish(env: ScriptedEnv, settings: CollectSettings, out: Path, task: str, index: int) -> _Outcome:
    """Records one index and replays it, unless that was done already."""
    path = episode_path(out, task, index)
    new = not path.exists()
    if new:
        for attempt in range(MAX_ATTEMPTS):
            seed = settings.seed * SEEDS_PER_COLLECTION + attempt * SEEDS_PER_ATTEMPT + index
            settle, pace = settings.manners[attempt % len(settings.manners)]
            episode = record(env, settings, task, seed, settle, pace)
            if episode is not None:
                break
        else:
            raise ValueError(f"the expert of {task} failed in {MAX_ATTEMPTS} scenes in a row; leave this task out")
        path.parent.mkdir(parents=True, exist_ok=True)
        episode.save(path)
    episode = Episode.load(path)
    failed = episode.seed % SEEDS_PER_COLLECTION // SEEDS_PER_ATTEMPT
    return _Outcome(task, len(episode), failed, _verdict(env, settings, path, episode), new)


def _verdict(env: ScriptedEnv, settings: CollectSettings, path: Path, episode: Episode) -> bool:
    """``replay``'s, kept in a file beside the episode: what was stopped, or refused by the gate, need not be replayed again."""
    kept, whose = path.with_suffix(".replayed"), episode.fingerprint()
    verdicts = {f"{word} {whose}": word == "yes" for word in ("yes", "no")}
    found = kept.read_text() if kept.exists() else ""
    if found in verdicts:
        return verdicts[found]
    verdict = replay(env, episode, settings.hold_steps)
    kept.write_text(f"{'yes' if verdict else 'no'} {whose}")
    return verdict


_WORKER: dict[str, object] = {}


def _start_worker(settings: CollectSettings, out: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    env = settings.start()
    _WORKER.update(env=env, settings=settings, out=out)


def _work(job: tuple[str, int]) -> _Outcome:
    return _finish(_WORKER["env"], _WORKER["settings"], _WORKER["out"], *job)


def _outcomes(settings: CollectSettings, out: Path) -> Iterator[_Outcome]:
    jobs = [(task, index) for task in settings.tasks for index in range(settings.episodes)]
    if settings.workers == 1:
        env = settings.start()
        try:
            for task, index in jobs:
                yield _finish(env, settings, out, task, index)
        finally:
            env.close()
        return
    executor = concurrent.futures.ProcessPoolExecutor(
        settings.workers, multiprocessing.get_context("spawn"), _start_worker, (settings, out)
    )
    try:
        for future in concurrent.futures.as_completed([executor.submit(_work, job) for job in jobs]):
            yield future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise EnvCrashError(
            "a simulator process died, perhaps for want of memory; start again to go on from the finished episodes, "
            "with fewer workers if it recurs"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def collect(settings: CollectSettings, out: Path) -> CollectReport:
    """Records and replays what is missing, and returns the figures of all.

    Raises:
      ValueError: episodes of other settings are there, or an expert never succeeds.
      ReplayGateError: a task's replays fell short of ``settings.gate``.
    """
    out = Path(out)
    # Whatever is wrong with simulator, renderer or cameras is said here, once, and not by every worker.
    settings.start().close()
    claim(out / ".episodes", settings.recorded())
    start, done = time.monotonic(), {task: [] for task in settings.tasks}
    with tqdm(
        total=len(settings.tasks) * settings.episodes, desc="demonstrations", unit="ep", dynamic_ncols=True
    ) as bar:
        for outcome in _outcomes(settings, out):
            done[outcome.task].append(outcome)
            bar.set_postfix_str(outcome.task, refresh=False)
            bar.update()
    reports = tuple(
        TaskReport(
            task=task,
            kept=len(outcomes),
            failed=sum(o.failed for o in outcomes),
            replayed=sum(o.replayed for o in outcomes),
            mean_length=float(np.mean([o.length for o in outcomes])),
        )
        for task, outcomes in done.items()
    )
    short = [f"{r.task} {r.replayed}/{r.kept}" for r in reports if r.replayed < settings.gate * r.kept]
    if short:
        raise ReplayGateError(
            f"replaying the recorded targets reproduced success too rarely (at least {settings.gate:.0%} is needed): "
            f"{', '.join(short)}; leave these tasks out, lower the action noise or the frame skip, or let them through (--gate)"
        )
    new = sum(o.new for outcomes in done.values() for o in outcomes)
    return CollectReport(reports, new, time.monotonic() - start)
