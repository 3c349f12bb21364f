"""Configurations: validate, compare, save. Every key is declared in ``configs/base.py``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.layouts import END_EFFECTOR, layout_of
from drifting_vla_jax.types import (
    CHOICES,
    FRAMES,
    GROUPINGS,
    OPTIMIZERS,
    REMAT,
    is_fixed,
    is_mixture,
    is_pretrained,
    set_names,
)

DTYPES = ("float32", "bfloat16")
CHANGES = ("none", "words", "camera", "light", "colour")  # of Meta-World's scenes: envs/metaworld_changes.py
THEMES = ("light", "dark", "paper", "presentation")  # of figures: figures/themes.py
EXECUTIONS = ("receding", "ensemble", "async")  # of chunks: rollout/chunking.py
PARTS = ("vision", "text", "fusion", "dit", "decoder")  # of the network, that can be frozen
LEAST_SHARE = 1e-4  # of a set in a mixture
RECORDS = ("none", "success", "all")  # of an evaluation's episodes: rollout/recording.py
LATER = {  # keys that older checkpoints lack
    "eval": {"record": "none"},
    "train": {"optimizer": "adamw"},
    "data": {"mixture": {"paths": [], "weights": []}},
    "action": {"layout": "end_effector", "joints": [], "grippers": []},
    "serve": {"dataset": ""},
}

_AT_LEAST_ONE = (
    *("env.image_size", "env.frame_skip", "data.batch_size", "data.prefetch", "action.horizon", "action.stride"),
    *("train.steps", "train.log_every", "train.eval_every", "train.eval_batches", "train.save_every", "train.keep"),
    *("train.micro_batches", "model.noise_dim", "model.history_stride", "model.vision.pool", "serve.text_cache"),
    *("serve.max_connections", "serve.num_samples"),
    *("eval.episodes", "eval.workers", "eval.execute", "eval.max_steps", "eval.hold_steps"),
)


class ConfigError(ValueError):
    """A configuration that cannot be meant; the message says what came, what was expected, what to do."""


def from_flag() -> ConfigDict:
    """What ``--config=FILE --config.key=value ...`` says, checked.

    Raises:
      FileNotFoundError: no such file.
      ConfigError: see ``validate``.
    """
    path = Path(flags.FLAGS["config"].config_filename)
    if not path.is_file():
        raise FileNotFoundError(f"no configuration file {path}; the project's own are in configs/")
    validate(flags.FLAGS.config)
    return flags.FLAGS.config


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """("train.learning_rate", 0.001), ... in declaration order."""
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_json(config: ConfigDict) -> dict:
    return json.loads(config.to_json())


def from_json(data: dict) -> ConfigDict:
    """A ConfigDict back from JSON: lists become the tuples they were, and what it was written without is as it was then."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(v) for key, v in value.items()}
        return tuple(value) if isinstance(value, list) else value

    whole = data | {part: LATER[part] | data[part] for part in LATER}
    return ConfigDict(tuples(whole)).lock()


def config_hash(config: ConfigDict) -> str:
    """12 hex digits that name a configuration."""
    return hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()[:12]


def save(config: ConfigDict, workdir: Path) -> None:
    (Path(workdir) / "config.json").write_text(json.dumps(to_json(config), indent=2) + "\n")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Keys whose values differ, as "key: old -> new"."""
    a, b = dict(flatten(old)), dict(flatten(new))
    return [f"{key}: {a.get(key)!r} -> {b.get(key)!r}" for key in a | b if a.get(key) != b.get(key)]


def validate(config: ConfigDict) -> None:
    """Checks what a type cannot say.

    Raises:
      ConfigError: with every problem found, one after the other.
    """
    m, problems = config.model, []

    def expect(ok: bool, message: str):
        if not ok:
            problems.append(message)

    for key in _AT_LEAST_ONE:
        value = _get(config, key)
        expect(value >= 1, f"config.{key} is {value}; expected at least 1")
    expect(
        config.train.warmup_steps < config.train.steps,
        f"config.train.warmup_steps {config.train.warmup_steps} is not below config.train.steps {config.train.steps}",
    )
    problems += _env_problems(config.env)
    expect(config.action.frame in FRAMES, f"config.action.frame is {config.action.frame!r}; expected {_either(FRAMES)}")
    expect(
        config.action.stride == 1 or not config.action.keyframes,
        f"config.action.stride is {config.action.stride}, but keyframes come as they are; leave it at 1",
    )
    for key in ("dtype", "frozen_dtype"):
        expect(m[key] in DTYPES, f"config.model.{key} is {m[key]!r}; expected {_either(DTYPES)}")
    name = config.train.optimizer
    expect(name in OPTIMIZERS, f"config.train.optimizer is {name!r}; expected {_either(OPTIMIZERS)}")
    expect(m.remat in REMAT, f"config.model.remat is {m.remat!r}; expected {_either(REMAT)}")
    expect(m.history >= 0, f"config.model.history is {m.history}; expected 0 (the present alone) or more")
    every, save = config.train.rollout_every, config.train.save_every
    expect(
        every >= 0 and every % save == 0,
        f"config.train.rollout_every is {every}; expected 0 or a multiple of config.train.save_every {save}: a checkpoint "
        "is what is evaluated",
    )
    problems += [*_layout_problems(config), *_mixture_problems(config), *_encoder_problems(config)]
    expect(config.profile >= 0, f"config.profile is {config.profile}; expected 0 (no step) or more")
    every = config.train.report_every
    expect(every >= 0, f"config.train.report_every is {every}; expected 0 (never) or more")
    problems += _figure_problems(config.figures)
    expect(config.train.wandb in ("auto", "off"), f"config.train.wandb is {config.train.wandb!r}; expected auto or off")
    o = config.objective
    expect(o.grouping in GROUPINGS, f"config.objective.grouping is {o.grouping!r}; expected {_either(GROUPINGS)}")
    for part, key in (("bank", "size"), ("guidance", "negatives")):
        value = o[part][key]
        expect(value >= 0, f"config.objective.{part}.{key} is {value}; expected 0 (off) or more")
        expect(
            value == 0 or o.name == "drifting",
            f"config.objective.{part} is for drifting alone, config.objective.name is {o.name!r}; set {part}.{key} to 0",
        )
    expect(
        o.guidance.negatives < config.data.batch_size,
        f"config.objective.guidance.negatives {o.guidance.negatives} must be below config.data.batch_size",
    )
    expect(o.anneal_from >= 1, f"config.objective.anneal_from is {o.anneal_from}; expected at least 1 (no annealing)")
    expect(0 < o.anneal_until <= 1, f"config.objective.anneal_until is {o.anneal_until}; expected a share, above 0")
    for key, least in (("max_alpha", 1), ("power", 0), ("alpha", 1)):
        value = o.guidance[key]
        expect(value >= least, f"config.objective.guidance.{key} is {value}; expected at least {least}")
    for name, width, heads in (
        ("vision", m.vision.width, m.vision.heads),
        ("text", m.text.width, m.text.heads),
        ("fusion", m.width, m.fusion.heads),
        ("dit", m.width, m.dit.heads),
    ):
        expect(width % (2 * heads) == 0, f"config.model.{name}: width {width} does not divide into {heads} even heads")
    expect(
        config.eval.execute <= config.action.horizon,
        f"config.eval.execute {config.eval.execute} is more than the chunk has, config.action.horizon "
        f"{config.action.horizon}",
    )
    problems += _acting_problems(config)
    sizes = tuple(config.serve.batch_sizes)
    expect(bool(sizes) and sizes == tuple(sorted(set(sizes))) and sizes[0] >= 1,
           f"config.serve.batch_sizes is {sizes}; expected ascending sizes, e.g. (1, 2, 4)")  # fmt: skip
    queue = config.serve.max_queue
    expect(
        queue >= max(sizes, default=1),
        f"config.serve.max_queue is {queue}; expected at least the largest batch size {sizes}",
    )
    expect(
        config.serve.idle_seconds > 0, f"config.serve.idle_seconds is {config.serve.idle_seconds}; expected more than 0"
    )
    if problems:
        raise ConfigError("; ".join(problems))


def _env_problems(env: ConfigDict) -> Iterator[str]:
    for key, what in (("cameras", "view"), ("tasks", "task")):
        if not len(env[key]):
            yield f"config.env.{key} is empty; name at least one {what}"
    if env.metaworld.change not in CHANGES:
        yield f"config.env.metaworld.change is {env.metaworld.change!r}; expected {_either(CHANGES)}"
    if env.name == "rlbench" and (env.frame_skip, env.state_dim) != (1, 10):
        yield (
            f"config.env.frame_skip is {env.frame_skip}, state_dim {env.state_dim}; rlbench has no steps to skip: "
            "expected 1 and 10"
        )
    if env.name == "robosuite" and env.state_dim != 10:
        yield f"config.env.state_dim is {env.state_dim}; robosuite's state has 10 numbers: expected 10"


def _layout_problems(config: ConfigDict) -> Iterator[str]:
    try:
        layout = layout_of(config)
    except ValueError as error:
        yield str(error)
        return
    noise, present, state = config.model.noise_dim, layout.present_dim, config.env.state_dim
    if config.objective.name == "flow_matching" and noise != layout.network_dim:
        yield (
            f"config.model.noise_dim is {noise}; flow_matching integrates in action space, of layout {layout} expected "
            f"{layout.network_dim}"
        )
    if state < present:
        yield (
            f"config.env.state_dim is {state}; with config.action.layout {config.action.layout} the state begins with the "
            f"{present} values that tell where things are now"
        )
    if layout != END_EFFECTOR and config.train.rollout_every:
        yield f"config.train.rollout_every is {config.train.rollout_every}, but simulators move one end effector; set it to 0"


def _mixture_problems(config: ConfigDict) -> Iterator[str]:
    names, weights = set_names(config), tuple(config.data.mixture.weights)
    if weights and len(weights) != len(names):
        yield (
            f"config.data.mixture.weights has {len(weights)} weights for {len(names)} paths; expected one each, or none: "
            "all alike"
        )
    for weight in weights:
        if not 0 < weight < math.inf:
            yield f"config.data.mixture.weights has {weight}; expected more than 0: take out a set that is not to be shown"
        elif weight < LEAST_SHARE * sum(weights):
            yield f"config.data.mixture.weights has {weight}, less than {LEAST_SHARE:g} of all; take that set out"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"config.data.mixture.paths has two sets called {name!r}; rename a folder: sets go by the ends of their paths"
    if is_mixture(config) and config.serve.dataset not in ("", *names):
        yield f"config.serve.dataset is {config.serve.dataset!r}; expected {_either(names)}, or '' for the first"
    if is_mixture(config) and config.data.features:
        yield "config.data.features reads what was stored of one data set; leave config.data.mixture.paths empty"


def _figure_problems(figures: ConfigDict) -> Iterator[str]:
    for key, value in figures.items():
        if key == "theme":
            if value not in THEMES:
                yield f"config.figures.theme is {value!r}; expected {_either(THEMES)}"
        elif value < 0:
            yield f"config.figures.{key} is {value}; expected steps between drawings, or 0 (never)"


def _acting_problems(config: ConfigDict) -> Iterator[str]:
    """What is wrong with how samples are chosen and how chunks are executed."""
    e, s = config.eval, config.serve
    if s.choose not in CHOICES:
        yield f"config.serve.choose is {s.choose!r}; expected {_either(CHOICES)}"
    if s.choose == "nearest_mean" and s.num_samples < 3:
        yield (
            f"config.serve.choose is nearest_mean of {s.num_samples} samples; of fewer than 3 all are equally near, set "
            "config.serve.num_samples"
        )
    if e.record not in RECORDS:
        yield f"config.eval.record is {e.record!r}; expected {_either(RECORDS)}"
    if e.execution not in EXECUTIONS:
        yield f"config.eval.execution is {e.execution!r}; expected {_either(EXECUTIONS)}"
    for key in ("ensemble_decay", "lead_steps", "delay_steps", "blend_steps"):
        if e[key] < 0:
            yield f"config.eval.{key} is {e[key]}; expected 0 or more"
    if e.execution != "async" and e.latency_ms:
        yield f"config.eval.latency_ms is {e.latency_ms:g}, but only execution async acts while it waits; set one or the other"
    if e.execution == "async" and e.lead_steps > e.execute:
        yield f"config.eval.lead_steps {e.lead_steps} is more than the actions executed, config.eval.execute {e.execute}"


def _encoder_problems(config: ConfigDict) -> Iterator[str]:
    """What is wrong with the encoders and what is to be trained of them."""
    m, v, freeze = config.model, config.model.vision, config.train.freeze
    unknown = [part for part in freeze if part not in PARTS]
    if unknown:
        yield f"config.train.freeze names {', '.join(unknown)}; expected some of {', '.join(PARTS)}"
    for part in ("vision", "text"):
        rank = m[part].lora
        if rank and not (is_pretrained(config, part) and part in freeze):
            yield (
                f"config.model.{part}.lora is {rank}: adapters are for a pretrained encoder that is frozen; "
                f"name one in config.model.{part}.name and put {part!r} into config.train.freeze"
            )
    if config.data.features:
        if not is_fixed(config, "vision"):
            yield "config.data.features needs a frozen pretrained image encoder without adapters: its outputs are stored"
        moving = [key for key in ("shift", "brightness", "contrast") if config.data[key]]
        if moving:
            yield (
                f"config.data.{', '.join(moving)} change images, but config.data.features reads what was stored of "
                "unchanged ones; set them to 0"
            )
    if is_pretrained(config, "vision"):
        return
    if v.image_size or v.pool != 1:
        yield "config.model.vision.image_size and pool are for a pretrained encoder; leave them at 0 and 1"
    if config.env.image_size % v.patch:
        yield f"config.env.image_size {config.env.image_size} is no multiple of config.model.vision.patch {v.patch}"
    if v.stem not in ("conv", "patch"):
        yield f"config.model.vision.stem is {v.stem!r}; expected conv or patch"
    levels = v.patch // 4
    if v.stem == "conv" and (v.patch % 4 or levels & (levels - 1)):
        yield f"config.model.vision.patch is {v.patch}; the conv stem needs 4, 8, 16 or 32"


def _get(config: ConfigDict, dotted: str):
    for part in dotted.split("."):
        config = config[part]
    return config


def _either(names) -> str:
    return " or ".join(names)
