"""Sessions with an arm that is the dummy simulator: a policy that looks, behind a real server; the commands as processes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.episode import Episode
from drifting_vla_jax.data.sources import rollouts
from drifting_vla_jax.envs.dummy import HIGH, LOW
from drifting_vla_jax.robot import replay_driver
from drifting_vla_jax.robot.driver import RobotStoppedError
from drifting_vla_jax.robot.driver_check import check_driver
from drifting_vla_jax.robot.env import Robot
from drifting_vla_jax.robot.safety import SafetyLimits
from drifting_vla_jax.robot.session import AutomaticOperator, run_session
from drifting_vla_jax.rollout.chunking.base import RECEDING
from drifting_vla_jax.rollout.episode import EpisodeSettings
from drifting_vla_jax.rollout.episode_log import read_episodes
from drifting_vla_jax.rollout.trajectory_writer import RolloutsAbout
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire.client import PolicyClient
from tests.robot.fake_arm import DummyArm, FakeArm
from tests.rollout.asked import executing
from tests.rollout.dummy_policy import LookingPolicy

ROOT = Path(__file__).parents[2]
LIMITS = SafetyLimits(tuple(LOW), tuple(HIGH), 0.03, 20.0, 0.1, timeout_s=2.0, stale_s=0.5)
SAID = {"low": LOW.tolist(), "high": HIGH.tolist(), "step_m": 0.03, "step_deg": 20, "lead_m": 0.1}
SAID |= {"timeout_s": 5.0, "stale_s": 1.0}


@pytest.fixture(scope="module")
def server():
    with PolicyServer(LookingPolicy(), port=0, batch_deadline_ms=1) as server:
        yield f"ws://127.0.0.1:{server.port}"


def session(server, out, arm, operator, episodes=2, execution=RECEDING, max_steps=50, instruction="reach the red ball"):
    with PolicyClient(server) as client:
        metadata = client.metadata
    settings = EpisodeSettings.for_policy(metadata, 2, max_steps, 1, execution)
    about = RolloutsAbout.of(metadata, "dummy arm", metadata["state_names"], 40.0)
    names = ("cameras", "image_size", "state_names")
    with Robot(arm, LIMITS, instruction=instruction, control_hz=40.0, **{n: metadata[n] for n in names}) as robot:
        how = {"episodes": episodes, "seed": 0, "out": out, "record": "all", "about": about}
        return run_session(robot, lambda: PolicyClient(server), settings, operator, **how)


@pytest.mark.parametrize("execution", [RECEDING, executing("ensemble", 3.0), executing("async", lead_steps=1)])
def test_a_policy_reaches_the_ball_and_is_judged(server, tmp_path, execution):
    arm = DummyArm()
    somebody = AutomaticOperator(lambda instruction: arm.solved())
    somebody.ended = arm.solved  # a busy machine answers late, and takes more steps
    results = session(server, tmp_path, arm, somebody, execution=execution, max_steps=800)
    assert [r.outcome for r in results] == ["success", "success"]
    lines = read_episodes(tmp_path / "episodes.jsonl")
    assert [(e["success"], e["task"]) for e in lines] == [(True, "reach-the-red-ball")] * 2
    assert ("delay_steps" in lines[0]) == (execution.execution == "async") and len(lines[0]["round_trip_ms"]) >= 2
    found = rollouts.find(tmp_path)
    assert len(found.paths) == 2 and found.about["control_hz"] == 40 and found.about["environment"] == "dummy arm"
    episode = Episode.load(found.paths[0])
    assert len(episode) == lines[0]["steps"] and episode.success and set(episode.images) == {"front", "above"}
    steps = np.linalg.norm(np.diff(episode.actions[:, :3], axis=0), axis=1)
    assert 0.015 < steps.max() < 0.031  # what was commanded, in metres
    assert session(server, tmp_path, arm, AutomaticOperator(), execution=execution, max_steps=800) == []  # all there


def test_what_nobody_judged_is_in_no_rate(server, tmp_path):
    from drifting_vla_jax.evaluate.statistics import summarize

    session(server, tmp_path, DummyArm(), AutomaticOperator(), episodes=1, max_steps=4)
    session(server, tmp_path, DummyArm(), AutomaticOperator(lambda _: False), episodes=3, max_steps=4)
    lines = read_episodes(tmp_path / "episodes.jsonl")
    assert [e["outcome"] for e in lines] == ["unjudged", "failed", "failed"]
    settings = dict.fromkeys(("checkpoint_step", "config_hash", "objective", "evaluations_per_chunk"), 1)
    overall = summarize(lines, settings)["overall"]
    assert (overall["n"], overall["unscored"], overall["success_rate"]) == (2, 1, 0.0)
    kept = [Episode.load(path).success for path in rollouts.find(tmp_path).paths]
    assert kept == [None, False, False]


def test_an_emergency_stop_counts_as_failure_and_ends_the_session(server, tmp_path):
    class Nervous(DummyArm):
        def fault(self):
            return "protective stop" if self.count >= 5 else ""

    with pytest.raises(RobotStoppedError, match="the arm says: protective stop"):
        session(server, tmp_path, Nervous(), AutomaticOperator(lambda _: True))
    (line,) = read_episodes(tmp_path / "episodes.jsonl")
    assert (line["outcome"], line["success"]) == ("emergency_stop", False)
    assert line["message"] == "the arm is stopped: the arm says: protective stop"


def test_a_lost_server_leaves_no_score_and_is_run_again(tmp_path):
    with PolicyServer(LookingPolicy(), port=0, batch_deadline_ms=1) as server:
        address = f"ws://127.0.0.1:{server.port}"
        arm = DummyArm()

        def command(pose, gripper):
            DummyArm.command(arm, pose, gripper)
            if arm.count == 4:  # asked again after every second
                server.stop()

        arm.command = command
        with pytest.raises(ConnectionError):
            session(address, tmp_path, arm, AutomaticOperator(lambda _: True), episodes=1)
    (line,) = read_episodes(tmp_path / "episodes.jsonl")
    assert (line["outcome"], line["success"]) == ("server_lost", None) and rollouts.find(tmp_path) is None
    with PolicyServer(LookingPolicy(), port=0, batch_deadline_ms=1) as server:
        address = f"ws://127.0.0.1:{server.port}"
        assert (
            len(session(address, tmp_path, DummyArm(), AutomaticOperator(lambda _: True), episodes=1, max_steps=4)) == 1
        )


def command(tmp_path, *flags, **options) -> list[str]:
    (tmp_path / "limits.json").write_text(json.dumps(SAID))
    driver = f"--driver_options={json.dumps(options)}" if options else "--driver_options={}"
    return [sys.executable, "-m", "drifting_vla_jax.robot", f"--limits={tmp_path}/limits.json", driver, *flags]


def environment(*more) -> dict:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, *more]))}


def run(tmp_path, *flags, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(tmp_path, *flags, **options), env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True,
        timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


ARM = "--driver=tests.robot.fake_arm:DummyArm"


def calls(path) -> list[tuple[str, float]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], float(line.split()[1])) for line in lines if len(line.split()) == 3]


def wait_for(condition, process, seconds=30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_arm_at_once(server, tmp_path, number, hangs):
    """A real process; once while its main thread is deaf inside the driver. Nothing is commanded after the stop."""
    log = tmp_path / "calls"
    options = {"log": str(log)} | ({"hang_at": 5} if hangs else {})
    flags = [ARM, f"--server={server}", "--instruction=reach the red ball", f"--out={tmp_path / 'out'}", "--judge=none"]
    process = subprocess.Popen(
        command(tmp_path, *flags, "--max_steps=1000", "--execute=2", **options), env=environment(), stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_for(lambda: len(calls(log)) >= 5, process)
    time.sleep(0.1)  # into the hanging call
    sent = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1] == "error: interrupted", errors
    names = [name for name, _ in calls(log)]
    stop = names.index("stop")
    assert calls(log)[stop][1] - sent < 1.0  # a hanging command takes three seconds
    assert "command" not in names[stop:] and "hold" not in names[stop:] and names[-1] == "close"
    if hangs:
        assert names[:stop].count("command") == 5 and time.monotonic() - sent > 2.0  # it was deaf indeed
    (line,) = read_episodes(tmp_path / "out" / "episodes.jsonl")
    assert (line["outcome"], line["success"]) == ("interrupted", None)


def test_an_exception_in_the_judge_stops_the_arm(server, tmp_path):
    (tmp_path / "my_judge.py").write_text("def judge(instruction):\n    raise OSError('no camera')\n")
    log = tmp_path / "calls"
    flags = [ARM, f"--server={server}", "--instruction=reach", f"--out={tmp_path / 'out'}", "--judge=my_judge:judge"]
    done = run(tmp_path, *flags, "--max_steps=3", "--execute=2", log=str(log))
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "error: no camera"
    names = [name for name, _ in calls(log)]
    assert names[-1] == "close" and names[-2] == "stop"
    assert read_episodes(tmp_path / "out" / "episodes.jsonl")[0]["outcome"] == "driver"


def test_an_operator_starts_ends_and_judges(server, tmp_path):
    """At a terminal: Enter, running, Enter, y; then q. The table counts one episode."""
    ours, theirs = pty.openpty()
    flags = [ARM, f"--server={server}", "--instruction=reach the red ball", f"--out={tmp_path / 'out'}", "--episodes=2"]
    process = subprocess.Popen(
        command(tmp_path, *flags, "--max_steps=2000", "--execute=2", log=str(tmp_path / "calls")), env=environment(),
        stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.write(ours, b"\n")
    wait_for(lambda: len(calls(tmp_path / "calls")) > 20, process)
    for words in (b"\n", b"perhaps\n", b"y\n", b"q\n"):
        os.write(ours, words)
        time.sleep(0.3)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert "episode 1 of 2, 'reach the red ball': put the scene in order" in out and "1 of 1 judged episodes" in out
    (line,) = read_episodes(tmp_path / "out" / "episodes.jsonl")
    assert line["outcome"] == "success" and 20 <= line["steps"] < 2000
    table = subprocess.run(
        [sys.executable, "-m", "drifting_vla_jax.evaluate", f"--out={tmp_path / 'out'}"],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert table.returncode == 0 and "1 / 1" in table.stdout, table.stderr


def test_a_dry_run_compares_with_the_demonstration(server, tmp_path):
    """The demonstration is the policy's own episode: what it would command is what was recorded, but for 8-bit rounding."""
    arm = DummyArm()
    session(server, tmp_path / "demo", arm, AutomaticOperator(), episodes=1, max_steps=20)
    path = rollouts.find(tmp_path / "demo").paths[0]
    flags = ["--driver=replay", f"--episode={path}", f"--server={server}", f"--out={tmp_path / 'dry'}"]
    done = run(tmp_path, *flags, "--execute=2")
    assert done.returncode == 0, done.stderr
    assert "dry run, 20 of 20 rows" in done.stdout and "0 of 0 judged episodes succeeded; 1 more" in done.stdout
    assert float(re.search(r"position, cm +([\d.]+)", done.stdout)[1]) < 0.01
    assert "the same word in 100 % of the rows" in done.stdout
    said = json.loads(done.stdout.split("pass: ")[1].splitlines()[0])
    SafetyLimits(**said)
    other = run(tmp_path, *flags, "--execute=2", "--instruction=reach the blue ball")
    assert other.returncode == 1 and "holds an evaluation with instruction 'reach the red ball'" in other.stderr
    other = run(
        tmp_path, *flags[:-1], f"--out={tmp_path / 'other'}", "--execute=2", "--instruction=reach the blue ball"
    )
    assert (
        float(re.search(r"position, cm +([\d.]+)", other.stdout)[1]) > 0.5
    )  # it goes another way, and the page says so


def test_the_comparison_is_in_centimetres_and_degrees():
    demonstrated = np.tile([0.5, 0, 0.3, 0, 0, 0, 1, 1], (4, 1))
    commanded = demonstrated.copy()
    commanded[1, :3] += [0.03, 0, 0.04]
    commanded[2, 3:7] = [0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)]
    commanded[3, 7] = 0
    found = replay_driver.compare(commanded, demonstrated)
    assert found["position_cm_max"] == pytest.approx(5) and found["position_cm_mean"] == pytest.approx(1.25)
    assert found["rotation_deg_max"] == pytest.approx(45) and found["gripper_agrees"] == 0.75


def test_a_replay_is_an_episode_of_a_data_set(dataset_path, tmp_path):
    from drifting_vla_jax.data import export
    from tests.small import episode

    assert export.export_episodes(dataset_path, tmp_path / "set") == 8
    assert len(rollouts.find(tmp_path / "set").paths) == 8
    again, demo = Episode.load(tmp_path / "set" / "rollouts" / "train-000003.npz"), episode(3)
    np.testing.assert_array_equal(again.actions, demo.actions)
    assert again.images == demo.images and again.instructions == demo.instructions and again.seed == 3
    driver = replay_driver.ReplayDriver(tmp_path / "set" / "rollouts" / "train-000003.npz")
    for row in (0, 1, 2):
        reading = driver.read()
        np.testing.assert_array_equal(reading.state, demo.state[row])
        np.testing.assert_allclose(reading.pose[:3], demo.state[row, :3])
        driver.hold(reading.pose, 1.0)  # is no row's command
        driver.command(demo.actions[row][:7], demo.actions[row][7])
    with pytest.raises(ValueError, match="is there already"):
        export.export_episodes(dataset_path, tmp_path / "set")
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no episode file"):
        replay_driver.ReplayDriver(tmp_path / "no.npz")


def test_a_good_driver_passes_the_check():
    lines, problems = check_driver(FakeArm(), 0.2, None, 20.0)
    assert problems == [] and "camera front: 30x40x3" in "\n".join(lines)


def _changed(**changes):
    arm = FakeArm()
    read = arm.read

    def changed():
        reading = read()
        return reading.__class__(**{**vars(reading), **{k: v(reading) for k, v in changes.items()}})

    arm.read = changed
    return arm


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"time": lambda r: 7.0}, "no new reading in all this time"),
        ({"time": lambda r: time.time()}, r"s old: expected seconds of time.monotonic\(\), not of time.time\(\)"),
        ({"time": lambda r: r.time - 0.6}, "a reading is 0.6.* s old, stale_s is 0.5"),
        ({"pose": lambda r: r.pose * [1000, 1000, 1000, 1, 1, 1, 1]}, "expected metres, not millimetres"),
        (
            {"pose": lambda r: r.pose + [*np.random.uniform(0, 0.1, 3), 0, 0, 0, 0]},
            "should be at rest, and its pose moves",
        ),
        ({"pose": lambda r: np.array([0.5, 2.0, 0.3, 0, 0, 0, 1])}, "outside the limits' box"),
        ({"images": lambda r: dict.fromkeys(r.images, np.zeros((8, 8, 3), np.uint8))}, "every pixel is alike"),
        (
            {"images": lambda r: dict.fromkeys(r.images, np.eye(8, dtype=np.uint8)[..., None].repeat(3, -1) * 255)},
            "it is frozen",
        ),
        ({"images": lambda r: {"front": r.images["front"]}}, "camera 'side' gave NoneType"),
        ({"images": lambda r: {k: v / 255.0 for k, v in r.images.items()}}, "gave float64 .30, 40, 3.; expected uint8"),
    ],
)
def test_the_check_names_what_is_wrong(changes, line):
    _, problems = check_driver(_changed(**changes), 0.1, LIMITS, 0.0)
    assert any(re.search(line, problem) for problem in problems), problems


def test_the_check_knows_rates_and_faults():
    arm = FakeArm(read=lambda arm: time.sleep(0.06))
    arm.why = "button pressed"
    _, problems = check_driver(arm, 0.4, None, 20.0)
    assert any("the policy acts at 20 Hz" in problem for problem in problems)
    assert any("a control period has 50 ms" in problem for problem in problems)
    assert "the arm says: button pressed" in problems and arm.names() == []


def test_the_check_as_a_command_moves_nothing(tmp_path):
    done = run(tmp_path, ARM, "--check", log=str(tmp_path / "calls"))
    assert done.returncode == 1 and "PROBLEM: camera front: not a pixel changes in 2 s" in done.stdout  # a drawing
    assert [name for name, _ in calls(tmp_path / "calls")] == ["close"]


VENDOR = """
import numpy as np
from drifting_vla_jax.envs.dummy import Dummy

SIM = Dummy(("front", "above"), 48, 2)
OBSERVATION = [SIM.reset("reach-red", 0, 3)[0]]


class Camera:
    def __init__(self, name):
        self.name = name

    def latest_rgb(self):
        noise = np.random.default_rng().integers(0, 2, (48, 48, 3), np.uint8)
        return OBSERVATION[0].images[self.name] // 2 * 2 + noise


class Arm:
    def __init__(self, address):
        print("arm at", address)

    def pose(self):
        return (*map(float, OBSERVATION[0].state[:3]), 1.0, 0.0, 0.0, 0.0)

    def fingers(self):
        return 0.08 * float(OBSERVATION[0].state[3])

    def servo_to(self, x, y, z, qw, qx, qy, qz, fingers):
        assert abs(qw) > 0.99
        OBSERVATION[0] = SIM.step(np.array([x, y, z, qx, qy, qz, qw, fingers / 0.08])).observation

    def protective_stop(self):
        return ""

    def halt(self):
        print("halted")

    def disconnect(self):
        print("disconnected")
"""


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the documentation of arms, in their order."""
    text = (ROOT / "docs" / "how-to" / "run-a-real-arm.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def test_the_documentation_runs_word_for_word(server, tmp_path):
    """The driver, through the check and the command; the loop in Python; limits.json."""
    driver, loop = blocks("python")
    lines = [line for line in driver.split("class MyArm")[1].splitlines() if line.strip()]
    assert len(lines) <= 21
    (tmp_path / "vendor.py").write_text(VENDOR)
    (tmp_path / "my_arm.py").write_text(driver)
    checked = run(tmp_path, "--driver=my_arm:MyArm", "--check")
    assert checked.returncode == 0 and "no problem found" in checked.stdout, checked.stdout + checked.stderr
    flags = ["--driver=my_arm:MyArm", f"--server={server}", "--instruction=reach the red ball", "--judge=none"]
    done = run(tmp_path, *flags, f"--out={tmp_path / 'out'}", "--max_steps=6", "--execute=2", address="10.0.0.7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "arm at 10.0.0.7" and "halted\ndisconnected" in done.stdout
    said = json.loads(blocks("json")[0])
    SafetyLimits(**said)
    (tmp_path / "limits.json").write_text(json.dumps(said | {k: SAID[k] for k in ("low", "high")}))
    loop = loop.replace("ws://gpu-machine:8000", server) + "    print(observation.state)\n"
    ran = subprocess.run(
        [sys.executable, "-c", loop], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("halted") >= 1 and "[" in ran.stdout


def test_help_explains_every_flag(tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0 and "Runs episodes on a real arm" in done.stdout
    for flag in ("driver", "limits", "server", "judge", "emergency", "record", "episode", "execution", "[no]check"):
        assert f"--{flag}:" in done.stdout


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--server=ws://127.0.0.1:9"], "--out is missing"),
        (["--episode=x.npz", "--out=o", "--server=ws://127.0.0.1:9"], "--episode is for --driver=replay"),
        (["--driver=replay", "--out=o", "--server=ws://127.0.0.1:9"], "needs --episode=FILE.npz"),
        (["--driver=nowhere:Arm", "--check"], "No module named 'nowhere'"),
        (["--out=o", "--server=ws://127.0.0.1:9", "--instruction=go"], "--judge=ask needs a terminal"),
        (
            ["--out=o", "--server=ws://127.0.0.1:9", "--instruction=go", "--judge=me"],
            "--judge is 'me'; expected module:fun",
        ),
        (["--out=o", "--server=ws://127.0.0.1:9", "--judge=none"], "--instruction is missing"),
        (["--check", "--driver_options=[1]"], "--driver_options is [1]; expected a JSON object"),
    ],
)
def test_bad_input_is_one_line(tmp_path, flags, line):
    done = subprocess.run(
        [*command(tmp_path)[:-1], ARM, *flags], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1 and line in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1 and not (tmp_path / "o").exists()
