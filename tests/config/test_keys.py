"""Every key of configs/base.py does something: for each one, another value must change what is named beside it.

The probes are cheap and real: the traced program of a training step, of the initial state or of an answer (no compilation),
the first batch of the pipeline, the mesh, the arguments that the command line hands to the evaluation and the server.
"""

import contextlib
import functools
import hashlib
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from drifting_vla_jax import main
from drifting_vla_jax.config import io as config_lib
from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data import sampling as samples
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.mixture import open_data
from drifting_vla_jax.figures.registry import PLOTS
from drifting_vla_jax.objectives.base import Target
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.policy import compile_cache
from drifting_vla_jax.policy import restore as restoring
from drifting_vla_jax.train import checkpoint, loop, sharding
from drifting_vla_jax.train import validation as held_out
from drifting_vla_jax.train.frozen_encoders import abstract_frozen_inputs
from drifting_vla_jax.train.monitoring import evaluations as rollouts_module
from drifting_vla_jax.train.monitoring import figures as figures_module
from drifting_vla_jax.train.monitoring import loggers
from drifting_vla_jax.train.monitoring import reports as reports_module
from drifting_vla_jax.train.optimizer import make_optimizer
from drifting_vla_jax.train.state import abstract_state, fake_batch, init_params, init_state
from drifting_vla_jax.train.step import sample_chunks, train_step
from drifting_vla_jax.train.validation_metrics import validation_metrics
from drifting_vla_jax.types import abstract
from tests.small import small_encoders, with_encoders, write_dataset


def _digest(*values) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()


def program(config) -> str:
    """The traced training step. It takes seconds: for what shows nowhere else."""
    state = jax.eval_shape(lambda: init_state(config))
    batch = abstract(fake_batch(config, config.data.batch_size, prompts=4))
    return _digest(str(jax.make_jaxpr(functools.partial(train_step, config=config))(state, batch)))


def shapes(config) -> str:
    """Every array of the train state: the network's parts and the optimiser's moments."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: init_state(config)))
    return _digest([(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves])


def answer(config) -> str:
    """The traced policy call."""
    observation = abstract(fake_batch(config, 2, prompts=2).observation)
    noise = jax.ShapeDtypeStruct((2, 1, config.action.horizon, config.model.noise_dim), jnp.float32)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    observation = observation.replace(text=abstract_frozen_inputs(config, params, sharding.make_mesh(config), 3).text)
    return _digest(str(jax.make_jaxpr(lambda p, o, n: sample_chunks(p, o, n, config))(params, observation, noise)))


def measured(config) -> str:
    """What validation measures."""
    return _digest([metric.name for metric in validation_metrics(config.train.metrics)])


def update(config) -> str:
    """The traced optimiser on three matrices."""
    params = {part: {"kernel": jnp.ones((2, 2))} for part in ("dit", "vision", "text")}
    optimiser = make_optimizer(config)
    return _digest(str(jax.make_jaxpr(lambda g: optimiser.update(g, optimiser.init(params), params)[0])(params)))


def beside(config) -> str:
    """What stands beside the train state: weights of frozen encoders, encoded instructions."""
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    found = abstract_frozen_inputs(config, params, sharding.make_mesh(config), 3)
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return _digest([(jax.tree_util.keystr(p), leaf.shape, leaf.dtype, leaf.sharding.spec) for p, leaf in leaves])


def loss(config) -> str:
    """The traced objective, learning and sampling, around a network that hands its noise through."""
    objective, ones = make_objective(config), jnp.ones((2, 4, 10))

    def both(key, noise):
        expert = Target(ones, ones, jnp.ones(2, bool), jnp.zeros(2, int))
        learned = objective.loss(lambda x, t: x + t[..., None, None], expert, key, jnp.float32(0.1), ())
        return learned, objective.sample(lambda x, t: x + t[..., None, None], noise)

    return _digest(str(jax.make_jaxpr(both)(jax.random.key(0), jnp.ones((2, 1, 4, 10)))))


def origin(config) -> str:
    """What the seed draws: the order of the data, and the traced initialisation."""
    return _digest(batch(config), str(jax.make_jaxpr(lambda: init_state(config))()))


def batch(config) -> str:
    """The second training batch: after the first, order and augmentation have had their say."""
    dataset = open_data(config)
    iterator = pipeline.batches(dataset, "train", dataset.action_space(config), config, train=True)
    next(iterator)
    return _digest([np.asarray(x).tolist() for x in jax.tree.leaves(next(iterator))])


def reading(config) -> str:
    """How the pipeline is set up: what the order and content of batches do not show."""
    seen = []

    def noting(original):
        def call(*args, **options):
            seen.append(([a for a in args if isinstance(a, int)], options))
            return original(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (samples, "ThreadPoolExecutor"),
            (pipeline.grain_experimental, "ThreadPrefetchIterDataset"),
        ):
            patch.setattr(module, name, noting(getattr(module, name)))
        dataset = DataSet(config.data.path, config.env.cameras)
        on = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        pipeline.batches(dataset, "train", dataset.action_space(config), config, train=True, sharding=on)
        cached = dataset.split("train", config.data.cache_mb).cache is not None
    assert len(seen) == 2
    return _digest(seen, cached)


def layout(config) -> str:
    """The mesh and where the parameters live on eight devices."""
    try:
        mesh = sharding.make_mesh(config)
    except ValueError as error:  # -1 means "what is left", so any other size either changes the mesh or does not fit
        return str(error)
    return _digest(mesh.shape, [str(x.sharding.spec) for x in jax.tree.leaves(abstract_state(config, mesh))])


def evaluation(config) -> str:
    """What ``--mode=eval`` hands to the evaluation."""
    from drifting_vla_jax.evaluate import checkpoint as evaluating
    from drifting_vla_jax.evaluate import table

    seen = {}
    policy = SimpleNamespace(metadata={"checkpoint_step": 1, "frame_skip": config.env.frame_skip, "control_hz": 20})

    def opened(config, workdir, batch_sizes):
        seen["batch_sizes"] = batch_sizes
        return policy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluating, "evaluate", lambda policy, **options: seen.update(options))
        patch.setattr(table, "format_results", lambda results: "")
        patch.setattr(main, "_policy", opened)
        main._evaluate(config, Path("w"))
    return _digest(sorted(seen.items(), key=lambda item: item[0]))


def serving(config) -> str:
    """What ``--mode=serve`` hands to the server and to the policy."""
    from drifting_vla_jax.serve import server, sockets

    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoring, "restore", lambda *args, **options: seen.append((args, options)))
        patch.setattr(compile_cache, "keep", lambda folder: seen.append(folder))
        patch.setattr(
            server, "PolicyServer", lambda policy, **o: seen.append(o) or SimpleNamespace(serve_forever=lambda: None)
        )
        patch.setattr(
            main, "FLAGS", SimpleNamespace(step="latest", sampling_steps=0, vision_weights=None, text_weights=None)
        )
        patch.setattr(sockets, "tls", lambda *files: files)
        main._serve(config, Path("w"))
    return _digest(seen)


def metadata(config) -> str:
    """What the server tells its clients."""
    actions = SimpleNamespace(state_mean=np.zeros(1))
    assets = checkpoint.Assets(config, actions, ("go",), 20.0, ("x",), {})
    message = restoring.RestoredPolicy(assets, {}, 1).metadata()
    return _digest({key: value for key, value in message.items() if key != "config_hash"})


def cadence(config) -> str:
    """On which steps the loop logs, validates and saves, how much, and what is kept."""
    events = []
    with pytest.MonkeyPatch.context() as patch:
        run = object.__new__(loop._Run)
        run.config, run.workdir = config, Path("unused")
        run.state = SimpleNamespace(step=0, ema_params=None)
        run.assets = None
        run.record = SimpleNamespace(running=lambda step: contextlib.nullcontext({}))
        run.reports = SimpleNamespace(due=lambda step: None, close=lambda: None)
        run.borrowed = None
        run.rollouts = SimpleNamespace(
            saved=lambda *args: events.append("rollout"),
            finished=lambda: rollouts_module.NOTHING,
            close=lambda *_: rollouts_module.NOTHING,
            stop=lambda: None,
        )
        run.figures = SimpleNamespace(due=lambda step: ())
        run.train_step = lambda state, batch, borrowed: (state, {"loss": 0.0, "finite": True})
        run.checkpoints = SimpleNamespace(
            save=lambda *args: events.append("save"), wait=lambda: None, latest=lambda: None, folder=""
        )
        run.held_out = SimpleNamespace(validate=lambda params: events.append("validate") or {})
        journal = SimpleNamespace(commit=lambda record, _: events.append(("log", record.step)), close=lambda _: None)
        patch.setattr(loggers, "make_journal", lambda *args: journal)
        patch.setattr(jax.profiler, "start_trace", lambda folder: events.append("trace"))
        patch.setattr(jax.profiler, "stop_trace", lambda: events.append("traced"))
        run.batches = _Forever()
        run.loop(lambda: False)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            loop, "Checkpoints", lambda workdir, keep: kept.append(keep) or SimpleNamespace(close=lambda: None)
        )
        patch.setattr(loop, "_Run", lambda *args: SimpleNamespace(loop=lambda interrupted: None))
        patch.setattr(loop, "owned", lambda workdir: contextlib.nullcontext())
        loop.train(config, "unused")
    dataset = DataSet(config.data.path, config.env.cameras)
    mesh, drawn = sharding.single_device_mesh(), []
    seen = held_out.Validator(dataset, dataset.action_space(config), config, mesh, None, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen, "_measure", lambda *args: {})
        patch.setattr(
            seen, "_draw", lambda *args: drawn.append(1) or SimpleNamespace(samples=None, figures={"loss": 0})
        )
        seen.validate({})
    return _digest(events, kept, len(drawn))


def drawing(config) -> str:
    """Which figures are drawn after which steps, and in which colours."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        started = []
        patch.setattr(figures_module.background, "start", lambda command, **_: started.append(command[4:]))
        figures = figures_module.Figures(config, Path(folder))
        snapshot = SimpleNamespace(step=6, save=lambda path: None)
        figures.draw(figures.due(6), snapshot)
        return _digest(started, [figures.due(step) for step in range(1, 7)])


def rollouts(config) -> str:
    """Which checkpoints are evaluated beside the training, and how."""
    started = []
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        running = SimpleNamespace(poll=lambda: None, pid=0)
        patch.setattr(rollouts_module.os, "setpriority", lambda *_: None)
        patch.setattr(rollouts_module.subprocess, "Popen", lambda command, **_: started.append(command[3:]) or running)
        config.train.rollout_every = config.train.rollout_every or 3  # how many episodes: seen only if there are any
        beside = rollouts_module.BackgroundEvaluation(config, Path(folder))
        for step in range(1, 7):
            (Path(folder) / "checkpoints" / str(step)).mkdir(parents=True)
            beside.saved(step, last=False)
            beside.finished()
        return _digest([[flag for flag in command if folder not in flag] for command in started])


def reports(config) -> str:
    """After which steps the report is made again."""
    made = []
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "metrics.jsonl").write_text("{}")
        beside = reports_module.Reports(config, Path(folder))
        patch.setattr(beside, "_start", lambda: made.append(step))
        for step in range(1, 4):
            beside.due(step)
        beside.close()
    return _digest(made)


class _Forever:
    def __next__(self):
        return None

    def get_state(self):
        return {}


def wandb_run(config) -> str:
    """Whether WandB is asked for, and under which names."""
    seen = []

    class Fake:
        @staticmethod
        def init(**options):
            seen.append({k: v for k, v in options.items() if k in ("project", "name")})

            return SimpleNamespace(define_metric=lambda *_, **__: None, finish=lambda: None)

        @staticmethod
        def Settings(**options):
            return None

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setitem(sys.modules, "wandb", Fake)
        loggers.make_journal(Path(folder), config, 0, {}).close()
    return _digest(seen)


def tensorboard_run(config) -> str:
    """Whether events for TensorBoard are written."""
    with tempfile.TemporaryDirectory() as folder:
        loggers.make_journal(Path(folder), config, 0, {}).close()
        return _digest((Path(folder) / "tensorboard").is_dir())


OTHER, BOTH = "<a second data set>", "<both data sets>"  # the test fills in where they are

# key -> (another value, the probe that must notice). The values keep the small configuration valid.
KEYS = {
    **{f"figures.{name}": (4, drawing) for name in PLOTS},
    "figures.theme": ("dark", drawing),
    "name": ("other", wandb_run),
    "seed": (1, origin),
    "profile": (2, cadence),
    "env.name": ("metaworld", metadata),
    "env.tasks": (("reach-red",), batch),
    "env.cameras": (("side", "front"), batch),
    "env.image_size": (32, shapes),
    "env.state_dim": (5, shapes),
    "env.frame_skip": (3, metadata),
    "env.metaworld.change": ("camera", evaluation),
    "env.rlbench.control": ("plan", evaluation),
    "env.rlbench.headless": (False, evaluation),
    "data.path": (OTHER, batch),
    "data.mixture.paths": (BOTH, batch),
    "data.mixture.weights": ((3.0, 1.0), batch),
    "data.batch_size": (16, batch),
    "data.max_tokens": (40, batch),
    "data.num_threads": (3, reading),
    "data.prefetch": (5, reading),
    "data.cache_mb": (0, reading),
    "data.features": (True, beside),
    "data.shift": (0, batch),
    "data.brightness": (0.0, batch),
    "data.contrast": (0.0, batch),
    "data.state_noise": (0.0, batch),
    "action.layout": ("bimanual", shapes),
    "action.joints": (("shoulder", "elbow"), shapes),
    "action.grippers": (("gripper",), shapes),
    "action.horizon": (2, shapes),
    "action.stride": (2, batch),
    "action.keyframes": (True, batch),
    "action.frame": ("absolute", batch),
    "model.width": (32, shapes),
    "model.readout": (4, shapes),
    "model.noise_dim": (6, shapes),
    "model.dtype": ("bfloat16", answer),
    "model.frozen_dtype": ("bfloat16", beside),
    "model.proprioception": (False, shapes),
    "model.history": (2, shapes),
    "model.history_stride": (2, batch),
    "model.scan_layers": (True, shapes),
    "model.remat": ("full", program),
    "model.vision.name": ("vit", shapes),
    "model.vision.image_size": (8, answer),
    "model.vision.pool": (2, shapes),
    "model.vision.lora": (2, shapes),
    "model.vision.patch": (4, shapes),
    "model.vision.stem": ("patch", shapes),
    "model.vision.width": (32, shapes),
    "model.vision.depth": (2, shapes),
    "model.vision.heads": (4, shapes),
    "model.text.name": ("bytes", shapes),
    "model.text.lora": (2, shapes),
    "model.text.width": (32, shapes),
    "model.text.depth": (2, shapes),
    "model.text.heads": (4, shapes),
    "model.fusion.depth": (2, shapes),
    "model.fusion.heads": (4, shapes),
    "model.dit.depth": (2, shapes),
    "model.dit.heads": (4, shapes),
    "model.mlp_ratio": (6.0, shapes),
    "objective.name": ("regression", loss),
    "objective.drifting.samples": (6, loss),
    "objective.drifting.temperatures": ((0.3,), loss),
    "objective.drifting.temperature_unit": ("mean_distance", loss),
    "objective.drifting.temperature_anneal.initial_scale": (4.0, loss),
    "objective.drifting.temperature_anneal.fraction": (0.5, loss),
    "objective.drifting.grouping": ("step", loss),
    "objective.flow_matching.samples": (6, loss),
    "objective.flow_matching.steps": (3, loss),
    "objective.drifting.memory_bank.size": (4, shapes),
    "objective.drifting.memory_bank.bandwidth": (0.5, program),
    "objective.drifting.guidance.negatives": (1, loss),
    "objective.drifting.guidance.max_alpha": (2.0, loss),
    "objective.drifting.guidance.power": (5.0, loss),
    "objective.drifting.guidance.drop_instruction": (0.5, program),
    "objective.drifting.guidance.alpha": (2.0, loss),
    "train.figures": (("tests.config.plain_figure:PLAIN",), drawing),
    "train.metrics": (("tests.config.zero_metric:ZERO",), measured),
    "train.steps": (9, update),
    "train.optimizer": ("muon", update),
    "train.learning_rate": (2e-3, update),
    "train.warmup_steps": (3, update),
    "train.final_lr_fraction": (0.5, update),
    "train.micro_batches": (2, program),
    "train.freeze": (("vision",), shapes),
    "train.lr_scale.vision": (0.5, update),
    "train.lr_scale.text": (0.5, update),
    "train.weight_decay": (0.2, update),
    "train.b1": (0.8, update),
    "train.b2": (0.8, update),
    "train.clip_norm": (2.0, update),
    "train.ema_decay": (0.5, program),
    "train.log_every": (2, cadence),
    "train.eval_every": (2, cadence),
    "train.eval_batches": (2, cadence),
    "train.save_every": (2, cadence),
    "train.keep": (4, cadence),
    "train.rollout_every": (6, rollouts),
    "train.rollout_episodes": (2, rollouts),
    "train.report_every": (2, reports),
    "train.tensorboard": (True, tensorboard_run),
    "train.wandb": ("auto", wandb_run),
    "train.wandb_project": ("other", wandb_run),
    "mesh.data": (8, layout),
    "mesh.fsdp": (4, layout),
    "mesh.tensor": (2, layout),
    "mesh.fsdp_min_size": (1, layout),
    "mesh.split_frozen": (True, beside),
    "eval.episodes": (3, evaluation),
    "eval.seed": (7, evaluation),
    "eval.demos": ("data/rlbench/test", evaluation),
    "eval.workers": (3, evaluation),
    "eval.execute": (1, evaluation),
    "eval.execution": ("ensemble", evaluation),
    "eval.ensemble_decay": (0.5, evaluation),
    "eval.lead_steps": (2, evaluation),
    "eval.delay_steps": (2, evaluation),
    "eval.latency_ms": (170.0, evaluation),
    "eval.hold_last": (True, evaluation),
    "eval.blend_steps": (3, evaluation),
    "eval.max_steps": (12, evaluation),
    "eval.hold_steps": (9, evaluation),
    "eval.repeatable": (False, evaluation),
    "eval.episode_seconds": (9.0, evaluation),
    "eval.videos": (2, evaluation),
    "eval.video_camera": ("above", evaluation),
    "eval.record": ("success", evaluation),
    "serve.host": ("0.0.0.0", serving),
    "serve.port": (1, serving),
    "serve.batch_sizes": ((1, 8), serving),
    "serve.batch_deadline_ms": (9.0, serving),
    "serve.num_samples": (4, serving),
    "serve.choose": ("nearest_mean", serving),
    "serve.dataset": ("kitchen", serving),
    "serve.compile_cache": (True, serving),
    "serve.text_cache": (2, serving),
    "serve.api_key": ("k", serving),
    "serve.tls_certificate": ("cert.pem", serving),
    "serve.tls_key": ("key.pem", serving),
    "serve.max_connections": (3, serving),
    "serve.max_queue": (9, serving),
    "serve.idle_seconds": (9.0, serving),
}

# Keys of pretrained encoders: their probes run with a pair of them.
PRETRAINED = (
    "data.features",
    "model.frozen_dtype",
    *(f"model.vision.{k}" for k in ("name", "image_size", "pool", "lora")),
)
PRETRAINED += ("model.text.name", "model.text.lora", "mesh.split_frozen")

# What else must hold for a key's probe to make sense.
WITH = {
    **{key: {"env.name": "rlbench"} for key in ("env.rlbench.control", "env.rlbench.headless", "eval.demos")},
    "data.mixture.weights": {"data.mixture.paths": BOTH},
    "action.joints": {"action.layout": "joints", "action.joints": ("wrist",)},
    "action.grippers": {"action.layout": "joints", "action.joints": ("wrist",)},
    "env.metaworld.change": {"env.name": "metaworld"},
    "eval.latency_ms": {"eval.execution": "async"},
    "model.history_stride": {"model.history": 1},
    "model.vision.image_size": {"model.vision.pool": 2},
    "mesh.data": {"mesh.fsdp": 2},
    "mesh.fsdp_min_size": {"mesh.fsdp": 2},
    "mesh.fsdp": {"mesh.fsdp_min_size": 1},
    "mesh.tensor": {"mesh.fsdp_min_size": 1},
    "mesh.split_frozen": {"mesh.fsdp": 2, "mesh.fsdp_min_size": 1},
    "figures.theme": {"figures.A1_drifting_field": 2},
    "train.wandb_project": {"train.wandb": "auto"},
    "name": {"train.wandb": "auto"},
    **{f"objective.flow_matching.{key}": {"objective.name": "flow_matching"} for key in ("samples", "steps")},
    "objective.drifting.temperature_anneal.fraction": {"objective.drifting.temperature_anneal.initial_scale": 2.0},
    "objective.drifting.memory_bank.bandwidth": {"objective.drifting.memory_bank.size": 4},
    "objective.drifting.guidance.max_alpha": {"objective.drifting.guidance.negatives": 1},
    "objective.drifting.guidance.power": {"objective.drifting.guidance.negatives": 1},
    "objective.drifting.guidance.drop_instruction": {"objective.drifting.guidance.negatives": 1},
    "objective.drifting.guidance.alpha": {"objective.drifting.guidance.negatives": 1},
}


def _set(config, key: str, value):
    *parents, leaf = key.split(".")
    for parent in parents:
        config = config[parent]
    config[leaf] = value


def test_every_key_has_a_probe():
    assert {key for key, _ in config_lib.flatten(base.get_config())} == set(KEYS)


@functools.cache
def _before(key_probe, fixed: tuple, path: str, encoders: str | None) -> str:
    from tests.small import small_config

    config = small_config()
    config.data.path = path
    if encoders:
        with_encoders(config, {part: f"{encoders}/{part}" for part in ("vision", "text")})
    for name, value in fixed:
        _set(config, name, value)
    return key_probe(config)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """The folder of a small pretrained pair."""
    out = tmp_path_factory.mktemp("encoders")
    small_encoders(out)
    return str(out)


@pytest.fixture(scope="module")
def other_dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("other"), episodes=6)


@pytest.mark.slow
def test_a_key_that_nothing_reads_would_be_caught(config):
    """The probes see the program and the data, never the configuration itself."""
    dead = ConfigDict(config).unlock()
    for part in (dead, *(dead[name] for name in ("env", "data", "action", "model", "objective", "train"))):
        part.unread = 7
    for probe in {probe for _, probe in KEYS.values()}:
        assert probe(dead) == probe(config), probe.__name__


@pytest.mark.parametrize("key", sorted(KEYS))
def test_changing_a_key_changes_something(key, config, other_dataset, encoders):
    value, probe = KEYS[key]
    there = {OTHER: str(other_dataset), BOTH: (config.data.path, str(other_dataset))}
    value = there[value] if value in (OTHER, BOTH) else value
    fixed = tuple((name, there[v] if v in (OTHER, BOTH) else v) for name, v in WITH.get(key, {}).items())
    beside_it = encoders if key in PRETRAINED else None
    before = _before(probe, fixed, config.data.path, beside_it)
    if beside_it:
        with_encoders(config, {part: f"{encoders}/{part}" for part in ("vision", "text")})
    for name, fixed_value in fixed:
        _set(config, name, fixed_value)
    assert value != dict(config_lib.flatten(config))[key]
    _set(config, key, value)
    assert probe(config) != before
