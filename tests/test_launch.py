"""The launchers: dry runs that need no cluster, and what they do with signals and failures."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
TRAIN = ("--config=configs/quickstart.py", "--workdir=runs/a run")
TPU = {"PROJECT": "mine", "ZONE": "us-west4-a"}


def run(script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    command = ["bash", str(LAUNCH / script), *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)


def commands(script: str, *arguments: str, **env: str) -> list[list[str]]:
    """What a dry run prints, as words."""
    done = run(script, *arguments, **env)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


# Processes on this machine


def test_local_processes_are_told_of_each_other():
    lines = commands("local_multiprocess.sh", "3", "--dry-run", *TRAIN, DEVICES="4", PORT="7000", XLA_FLAGS="")
    for i, words in enumerate(lines):
        assert {"JAX_PLATFORMS=cpu", "XLA_FLAGS=--xla_force_host_platform_device_count=4"} <= set(words)
        assert words[words.index("python") :][:5] == ["python", "-m", "drifting_vla_jax.main", *TRAIN]
        assert {"--coordinator=127.0.0.1:7000", "--num_processes=3", f"--process_id={i}"} <= set(words)
        assert words[-3:] == [f"runs/a run/processes/{i}.log", "2>&1", "&"]
    assert len(lines) == 3 and not (ROOT / "runs/a run").exists()


def test_local_paths_are_those_of_the_folder_it_is_started_in(tmp_path, programs):
    """Not of the project; ~ is not left for a folder of that name."""
    config, workdir = "--config=mine.py", "--workdir=~/a run"
    command = ["bash", str(LAUNCH / "local_multiprocess.sh"), "1", config, workdir]
    env = {**os.environ, "HOME": str(tmp_path), "PATH": programs(python="pwd; printf '%s|' \"$@\"")}
    (tmp_path / "launch").symlink_to(LAUNCH)  # a project without .venv
    command[1] = str(tmp_path / "launch" / "local_multiprocess.sh")
    (tmp_path / "away").mkdir()
    done = subprocess.run(command, env=env, cwd=tmp_path / "away", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "a run" / "processes" / "0.log").read_text()
    assert told.startswith(f"{tmp_path}/away\n") and f"|{config}|{workdir}|" in told
    assert not list((tmp_path / "away").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("two", *TRAIN), "how many processes?"),
        (("2", TRAIN[0]), "--config=FILE and --workdir=DIR are needed"),
        (("2", TRAIN[0], "--workdir=gs://bucket/run"), "--workdir=gs://bucket/run: expected a folder of this machine"),
    ],
)
def test_local_without_what_it_needs_says_so(arguments, message):
    done = run("local_multiprocess.sh", *arguments)
    assert done.returncode == 1 and message in done.stderr


# The commands of these tests run a stand-in for Python: .venv would hide it, so the project is a copy without one.


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "launch").mkdir(parents=True)
    for script in LAUNCH.glob("*.sh"):
        (folder / "launch" / script.name).write_text(script.read_text())
    return folder


def test_if_one_local_process_fails_the_others_are_stopped(project, programs, tmp_path):
    path = programs(python='[[ $* == *--process_id=1* ]] && { sleep 0.5; exit 7; }; echo "I am $$"; exec sleep 60')
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "launch/local_multiprocess.sh", "3", "--config=c.py", f"--workdir={tmp_path / 'run'}"],
        cwd=project, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1 and time.monotonic() - began < 10
    assert (
        f"error: process 1 ended with 7, the others are stopped; see {tmp_path / 'run'}/processes/1.log" in done.stderr
    )
    for i in (0, 2):
        number = (tmp_path / "run" / "processes" / f"{i}.log").read_text().split()[-1]
        wait_until(lambda number=number: not Path(f"/proc/{number}").exists())


def test_a_signal_to_the_local_launcher_reaches_every_process(project, programs, tmp_path):
    path = programs(python='trap "echo saved; exit 0" TERM; echo ready; for _ in $(seq 400); do sleep 0.05; done')
    command = ["bash", "launch/local_multiprocess.sh", "2", "--config=c.py", f"--workdir={tmp_path / 'run'}"]
    launcher = subprocess.Popen(
        command, cwd=project, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True
    )
    logs = [tmp_path / "run" / "processes" / f"{i}.log" for i in (0, 1)]
    wait_until(lambda: all(log.is_file() and "ready" in log.read_text() for log in logs))
    launcher.terminate()
    assert launcher.wait(20) == 0
    assert [log.read_text().split() for log in logs] == [["ready", "saved"]] * 2


def wait_until(true, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# SLURM


def test_slurm_says_what_it_would_submit_and_run():
    *options, submit, step = commands("slurm.sh", "--dry-run", *TRAIN)
    assert submit == ["sbatch", "launch/slurm.sh", *TRAIN]
    assert step[0] == "srun" and step[-5:] == ["python", "-m", "drifting_vla_jax.main", *TRAIN]
    assert {"--ntasks-per-node=1", "--kill-on-bad-exit=1"} <= set(step)
    assert {("#SBATCH", "--requeue"), ("#SBATCH", "--signal=B:USR1@300")} <= {tuple(words) for words in options}


@pytest.fixture
def job(project, programs, tmp_path):
    """job(stand-in for srun) -> the batch script as SLURM runs it; what scontrol is told is in a file."""

    def job(srun: str) -> subprocess.Popen:
        path = programs(srun=srun, scontrol=f'echo "$@" > {tmp_path}/scontrol.txt')
        env = {**os.environ, "PATH": path, "SLURM_JOB_ID": "12", "SLURM_SUBMIT_DIR": str(project)}
        command = ["bash", str(project / "launch" / "slurm.sh"), *TRAIN]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return job


SAVES = 'trap "sleep 0.2; exit 0" {}; echo ready; for _ in $(seq 400); do sleep 0.05; done'


def test_before_its_time_is_up_a_job_saves_and_queues_again(job, tmp_path):
    running = job(SAVES.format("USR1"))
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGUSR1)
    assert running.wait(20) == 0
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 12\n"


def test_a_job_that_slurm_takes_away_is_left_to_slurm(job, tmp_path):
    running = job(SAVES.format("TERM") + " & wait")  # SLURM signals the steps itself
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert running.poll() is None
    running.kill()
    assert not (tmp_path / "scontrol.txt").exists()


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_ends_by_itself_does_not_queue_again(job, tmp_path, code):
    ended = job(f"exit {code}")
    said = ended.communicate(timeout=20)[1]
    assert (ended.returncode == 0) == (code == 0)
    assert ("training ended with 3" in said) == (code == 3)
    assert not (tmp_path / "scontrol.txt").exists()


# Meta-World's results


def test_a_page_of_results_takes_data_trainings_a_suite_and_a_page():
    data, *trainings, suite, page = commands("metaworld.sh", "mt10", "--dry-run", "--config.seed=1")
    assert data[:3] == ["python", "-m", "drifting_vla_jax.data.build"]
    runs = ["runs/mt10", "runs/mt10-flow_matching", "runs/mt10-regression"]
    for words, workdir, objective in zip(trainings, runs, ("drifting", "flow_matching", "regression"), strict=True):
        assert words[2:5] == ["drifting_vla_jax.main", "--config=configs/metaworld_mt10.py", f"--workdir={workdir}"]
        assert words[5:] == [f"--config.objective.name={objective}", "--config.seed=1"]
    assert suite[2:] == ["drifting_vla_jax.evaluate.suite", f"--runs={','.join(runs)}", "--episodes=50", "--fewer=20"]
    assert page[2:] == ["drifting_vla_jax.report.results.page", f"--runs={','.join(runs)}", "--out=runs/mt10-results"]


@pytest.mark.parametrize("suite", ["mt10", "mt50"])
def test_the_data_are_those_that_the_configuration_reads(suite):
    """Its tasks, views, rate and folder: the command line names none of them."""
    data = commands("metaworld.sh", suite, DRY_RUN="1")[0]
    assert data[3] == f"--config=configs/metaworld_{suite}.py"
    assert {word.split("=")[0] for word in data[4:]}.isdisjoint(
        {"--tasks", "--cameras", "--image_size", "--frame_skip"}
    )


def test_fifty_tasks_and_one_objective():
    data, training, suite, _ = commands(
        "metaworld.sh", "mt50", "--dry-run", OBJECTIVES="drifting", EPISODES="10", FEWER="5", RUNS="runs/all"
    )
    assert "--episodes=50" in data and "--workdir=runs/all" in training
    assert suite[-3:] == ["--runs=runs/all", "--episodes=10", "--fewer=5"]


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        ((), {}, "which tasks? bash launch/metaworld.sh mt10|mt50"),
        (("mt11",), {}, "which tasks?"),
        (("mt10", "--seed=1"), {}, "--seed=1? options of the trainings begin with --config."),
        (("mt10", "--config.objective.name=regression"), {}, "the objectives are OBJECTIVES="),
        (
            ("mt10",),
            {"OBJECTIVES": "drifting flow-matching"},
            "OBJECTIVES has flow-matching; expected names, or import paths module:name",
        ),
    ],
)
def test_metaworld_without_what_it_needs_says_so(arguments, env, message):
    done = run("metaworld.sh", *arguments, **env)
    assert done.returncode == 1 and message in done.stderr and not done.stdout


# Cloud TPU


@pytest.mark.parametrize("step", ["create", "status", "install", "train", "stop", "delete"])
def test_a_dry_run_prints_what_the_tpu_script_runs(programs, step):
    arguments = [step, "pod", *(TRAIN if step == "train" else ())]
    planned = commands("tpu_pod.sh", *arguments, "--dry-run", **TPU)
    log = Path(programs(gcloud='printf "%q " gcloud "$@" >> "$0.log"; echo >> "$0.log"').split(":")[0]) / "gcloud.log"
    done = run("tpu_pod.sh", *arguments, **TPU, PATH=f"{log.parent}:{os.environ['PATH']}")
    assert done.returncode == 0 and not done.stdout
    assert [shlex.split(line) for line in log.read_text().splitlines()] == planned
    assert all(words[:3] == ["gcloud", "compute", "tpus"] for words in planned)
    assert all({"--project=mine", "--zone=us-west4-a"} <= set(words) for words in planned)


def test_a_slice_is_asked_for_in_the_queue_and_trained_on_by_every_host():
    (create,) = commands("tpu_pod.sh", "create", "pod", **TPU, DRY_RUN="1", SPOT="1", ACCELERATOR_TYPE="v6e-16")
    assert create[3:6] == ["queued-resources", "create", "pod"]
    assert {"--node-id=pod", "--accelerator-type=v6e-16", "--spot"} <= set(create)
    (train,) = commands("tpu_pod.sh", "train", "pod", *TRAIN, **TPU, DRY_RUN="1")
    (told,) = (word.removeprefix("--command=") for word in train if word.startswith("--command="))
    assert "--worker=all" in train
    assert shlex.split(told)[-5:] == ["python", "-m", "drifting_vla_jax.main", *TRAIN]


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (("create",), TPU, "create|status|install|train|stop|delete NAME"),
        (("create", "pod"), {"ZONE": "z"}, "set PROJECT to your Google Cloud project"),
        (("start", "pod"), TPU, "unknown step start"),
        (("train", "pod", TRAIN[0]), TPU, "--config=FILE and --workdir=DIR are needed"),
    ],
)
def test_tpu_without_what_it_needs_says_so(arguments, env, message):
    done = run("tpu_pod.sh", *arguments, "--dry-run", **env)
    assert done.returncode == 1 and message in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


# GKE


@pytest.fixture
def pod():
    """The pod of gke.yaml's one job."""
    (jobset,) = yaml.safe_load_all((LAUNCH / "gke.yaml").read_text())
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    return jobset, job, job["template"]["spec"]


def test_the_jobset_has_a_pod_for_every_host_of_the_slice(pod):
    jobset, job, spec = pod
    (container,) = spec["containers"]
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    rows, columns = map(int, spec["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    hosts = rows * columns // container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == hosts == 4
    assert job["backoffLimit"] == 0 and jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert (ROOT / given["CONFIG"]).is_file()
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(given["WORKDIR"].startswith(mount) for mount in mounts)
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize(
    ("python", "told", "code"),
    [
        ("exit 0", False, 0),
        ("exit 3", False, 3),
        ('trap "exit 0" TERM; echo "$@"; for _ in $(seq 400); do sleep 0.05; done', True, 75),
        ('trap "exit 4" TERM; echo "$@"; for _ in $(seq 400); do sleep 0.05; done', True, 4),
    ],
    ids=["done", "failed", "saved because the pod goes", "failed to save"],
)
def test_a_pod_that_goes_before_the_end_counts_as_failed(pod, programs, python, told, code):
    """So the JobSet starts all of them again; only a finished run is a success."""
    (container,) = pod[2]["containers"]
    env = {**os.environ, "PATH": programs(python=python), "CONFIG": "c.py", "WORKDIR": "/w"}
    command = [*container["command"], *container["args"]]
    running = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    if told:
        assert running.stdout.readline() == "-m drifting_vla_jax.main --config=c.py --workdir=/w\n"
        running.terminate()
    assert running.wait(20) == code
