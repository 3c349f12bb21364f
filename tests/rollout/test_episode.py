"""One episode against a simulator that follows a script: what counts as success, what is rendered, what is asked."""

import numpy as np
import pytest

from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout.chunking.base import RECEDING
from drifting_vla_jax.rollout.episode import EpisodeSettings, EpisodeSpec, policy_seed, run_episode
from drifting_vla_jax.wire.client import PolicyServerError
from tests.rollout.asked import executing

SPEC = EpisodeSpec(task="reach", variation=0, seed=5, index=0)
HORIZON = 4


class ScriptedEnv:
    """Success at step n is ``script[n]``, an exception there is raised; it ends itself after step ``done``."""

    control_hz = 20.0

    def __init__(self, script, done=None):
        self.script, self.done = list(script), done
        self.actions, self.renders = [], []

    def reset(self, task, variation, seed):
        return self._observe(True), f"{task} {variation} {seed}"

    def step(self, action, render=True):
        outcome = self.script[len(self.actions)]
        self.actions.append(action)
        self.renders.append(render)
        if isinstance(outcome, Exception):
            raise outcome
        return envs.Step(self._observe(render), success=outcome, done=len(self.actions) == self.done)

    def _observe(self, render):
        images = {"top": np.full((4, 4, 3), len(self.actions), np.uint8)} if render else {}
        return envs.EnvObservation(images, np.full(2, len(self.actions), np.float32))


class CountingClient:
    """Answers chunks that name the step they were asked at and their own index; keeps the requests."""

    def __init__(self):
        self.requests = []

    def infer(self, observation):
        self.requests.append(observation)
        actions = np.zeros((HORIZON, 8), np.float32)
        actions[:, 6] = 1
        actions[:, 0], actions[:, 1] = observation["state"][0], np.arange(HORIZON)
        return {"actions": actions, "server_timing": {"infer_ms": 2.0}}


def play(script, *, execute=2, hold_steps=2, done=None, execution=RECEDING):
    env, client = ScriptedEnv(script, done), CountingClient()
    settings = EpisodeSettings(execute, max_steps=len(script), hold_steps=hold_steps, execution=execution)
    return run_episode(env, client, SPEC, settings), env, client


@pytest.mark.parametrize(
    ("script", "hold", "outcome", "latched", "steps"),
    [
        ([0, 1, 1, 0], 2, "success", True, 3),
        ([0, 1, 0, 1, 1], 2, "success", True, 5),
        ([0, 1, 0, 1, 0], 2, "time_limit", True, 5),
        ([0, 0, 0], 2, "time_limit", False, 3),
        ([0, 0, 0, 1], 1, "success", True, 4),
        ([1, 1, 1, 1], 4, "success", True, 4),
        ([1, 1, 1, 1], 5, "time_limit", True, 4),
    ],
)
def test_success_is_held_in_a_row(script, hold, outcome, latched, steps):
    result, env, _ = play([bool(s) for s in script], hold_steps=hold)
    assert (result.outcome, result.latched, result.steps) == (outcome, latched, steps)
    assert result.success is (outcome == "success")
    assert len(env.actions) == steps


def test_the_simulator_may_end_an_episode():
    result, _, _ = play([False, True, False, False], done=2)
    assert (result.outcome, result.success, result.latched, result.steps) == ("ended", False, True, 2)
    assert play([True, True, False], done=2)[0].outcome == "success"  # held at the very step it ended


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (envs.InvalidActionError("no pose"), "invalid_action"),
        (envs.IKError("too far"), "ik"),
        (envs.PathError("wall"), "path"),
        (envs.EnvTimeoutError("silence"), "timeout"),
    ],
)
def test_a_refused_action_ends_the_episode_under_its_name(error, outcome):
    result, _, _ = play([False, True, error, False])
    assert (result.outcome, result.success, result.latched, result.steps) == (outcome, False, True, 2)
    line = result.line(SPEC)
    assert line["message"] == str(error) and len(line["round_trip_ms"]) == 2


@pytest.mark.parametrize(
    "error", [envs.EnvCrashError("signal 11"), envs.EnvError("?"), ConnectionError("gone"), KeyError(1)]
)
def test_what_says_nothing_about_the_policy_is_not_an_outcome(error):
    with pytest.raises(type(error)):
        play([False, error])


class RefusedLater(CountingClient):
    """Refuses from the second question on."""

    def __init__(self, message, after=1):
        super().__init__()
        self.message, self.after = message, after

    def infer(self, observation):
        if len(self.requests) == self.after:
            raise PolicyServerError(self.message)
        return super().infer(observation)


@pytest.mark.parametrize("message", ['bad request: state[2] "z" is 612', "inference failed: not finite"])
def test_what_the_server_refuses_later_counts_under_its_own_name(message):
    settings = EpisodeSettings(2, max_steps=6, hold_steps=2)
    result = run_episode(ScriptedEnv([False] * 6), RefusedLater(message), SPEC, settings)
    assert (result.outcome, result.success, result.steps, result.message) == ("refused", False, 2, message)
    with pytest.raises(PolicyServerError):  # at once: the simulator shows what this policy does not take
        run_episode(ScriptedEnv([False] * 6), RefusedLater(message, 0), SPEC, settings)
    with pytest.raises(PolicyServerError):
        run_episode(ScriptedEnv([False] * 6), RefusedLater("busy: 9 wait"), SPEC, settings)


def test_images_are_rendered_only_where_the_policy_is_asked():
    _, env, client = play([False] * 7, execute=3)
    assert env.renders == [False, False, True, False, False, True, False]
    assert [r["images"]["top"][0, 0, 0] for r in client.requests] == [0, 3, 6]
    assert [r["state"][0] for r in client.requests] == [0, 3, 6]


def test_actions_are_executed_in_the_chunks_order():
    _, env, _ = play([False] * 5, execute=2)
    assert [(a[0], a[1]) for a in env.actions] == [(0, 0), (0, 1), (2, 0), (2, 1), (4, 0)]


def test_an_ensemble_asks_and_renders_at_every_step():
    _, env, client = play([False] * 3, execute=1, execution=executing("ensemble"))
    assert len(client.requests) == 3 and env.renders == [True] * 3
    np.testing.assert_allclose([a[0] for a in env.actions], [0, 0.5, 1])  # of the steps of the questions
    np.testing.assert_allclose([a[1] for a in env.actions], [0, 0.5, 1])  # of the places in the chunks


def test_an_asynchronous_episode_acts_on_what_was_seen_earlier():
    """Execute 2, asked 1 step ahead, 1 step late: images of steps 1, 3, ... are rendered and act from 2, 4, ... on."""
    execution = executing("async", lead_steps=1, delay_steps=1)
    result, env, client = play([False] * 6, execution=execution)
    assert [r["state"][0] for r in client.requests] == [0, 1, 3, 5]
    assert env.renders == [True, False, True, False, True, False]
    assert [(a[0], a[1]) for a in env.actions] == [(0, 0), (0, 1), (1, 1), (1, 2), (3, 1), (3, 2)]
    line = result.line(SPEC)
    assert line["delay_steps"] == [1, 1, 1, 1]  # a round trip of microseconds, in whole control steps of 50 ms
    assert "delay_steps" not in play([False])[0].line(SPEC)


@pytest.mark.parametrize(
    "execution", [RECEDING, executing("ensemble", 0.1), executing("async", lead_steps=1, delay_steps=1, blend_steps=1)]
)
def test_every_way_of_executing_chunks_reaches_the_goal(execution):
    """The dummy simulator and a policy that knows the way: straight to the ball whose colour it is told, half way a step."""
    env = registry.make("dummy", cameras=("front",), image_size=16, frame_skip=1)
    goals = []

    class Guide:
        def infer(self, observation):
            hand = observation["state"][:3].astype(float)
            share = 1 - 0.5 ** np.arange(1, 1 + HORIZON)[:, None]
            path = hand + share * (goals[0] - hand)
            rest = np.tile([0, 0, 0, 1, 1], (HORIZON, 1))
            return {"actions": np.float32(np.concatenate([path, rest], 1)), "server_timing": {"infer_ms": 0.0}}

    settings = EpisodeSettings(execute=2, max_steps=40, hold_steps=3, execution=execution)
    spec = EpisodeSpec(env.info.tasks[0], 0, 3, 0)
    env.reset(spec.task, spec.variation, spec.seed)
    goals.append(env._goal)
    lines = [run_episode(env, Guide(), spec, settings).line(spec) for _ in range(2)]
    assert lines[0]["success"]
    for line in lines:
        for measured in ("round_trip_ms", "latency_ms", "delay_steps"):
            line.pop(measured, None)
    assert lines[0] == lines[1]
    env.close()


def test_requests_carry_instruction_and_a_seed_of_their_own():
    _, _, client = play([False] * 4, execute=1)
    assert {r["prompt"] for r in client.requests} == {"reach 0 5"}
    seeds = [r["seed"] for r in client.requests]
    assert seeds == [policy_seed(5, step) for step in range(4)] and len(set(seeds)) == 4
    assert all(type(s) is int and 0 <= s < 2**32 for s in seeds)
    assert policy_seed(5, 1) != policy_seed(6, 1) and policy_seed(0, 1) != policy_seed(1, 0)


def test_the_line_says_everything():
    result, _, _ = play([False, True, True])
    line = result.line(SPEC)
    latency, round_trips = line.pop("latency_ms"), line.pop("round_trip_ms")
    assert set(latency) == {"p50", "p95", "mean"} and len(round_trips) == 2
    assert min(round_trips) <= latency["p50"] <= latency["p95"] <= max(round_trips)
    assert line == {
        "task": "reach",
        "variation": 0,
        "seed": 5,
        "success": True,
        "latched": True,
        "steps": 3,
        "outcome": "success",
        "instruction": "reach 0 5",
        "message": "",
        "events": {},
        "infer_ms": [2.0, 2.0],
    }


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="hold_steps is 0; expected at least 1"):
        EpisodeSettings(execute=1, max_steps=5, hold_steps=0)
