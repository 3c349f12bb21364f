"""Configurations: validate, compare, save. Every key is declared in ``configs/base.py``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from drifting_vla_jax.types import FRAMES, GROUPINGS

_AT_LEAST_ONE = (
    *("env.image_size", "env.frame_skip", "data.batch_size", "data.prefetch", "action.horizon", "model.noise_dim"),
    *("train.steps", "train.log_every", "train.eval_every", "train.eval_batches", "train.save_every", "train.keep"),
    *("eval.episodes", "eval.workers", "eval.execute", "eval.max_steps", "eval.hold_steps"),
)


class ConfigError(ValueError):
    """A configuration that cannot be meant; the message says what came, what was expected, what to do."""


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
    """A ConfigDict back from JSON: lists become the tuples they were."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(v) for key, v in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(tuples(data)).lock()


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
    expect(len(config.env.cameras) > 0, "config.env.cameras is empty; name at least one view")
    expect(len(config.env.tasks) > 0, "config.env.tasks is empty; name at least one task")
    expect(config.action.frame in FRAMES, f"config.action.frame is {config.action.frame!r}; expected {_either(FRAMES)}")
    expect(m.vision.stem in ("conv", "patch"), f"config.model.vision.stem is {m.vision.stem!r}; expected conv or patch")
    expect(m.dtype in ("float32", "bfloat16"), f"config.model.dtype is {m.dtype!r}; expected float32 or bfloat16")
    expect(config.train.wandb in ("auto", "off"), f"config.train.wandb is {config.train.wandb!r}; expected auto or off")
    expect(
        config.env.image_size % m.vision.patch == 0,
        f"config.env.image_size {config.env.image_size} is no multiple of config.model.vision.patch {m.vision.patch}",
    )
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
    levels = m.vision.patch // 4
    expect(
        m.vision.stem != "conv" or (m.vision.patch % 4 == 0 and levels & (levels - 1) == 0),
        f"config.model.vision.patch is {m.vision.patch}; the conv stem needs 4, 8, 16 or 32",
    )
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
    sizes = tuple(config.serve.batch_sizes)
    expect(bool(sizes) and sizes == tuple(sorted(set(sizes))) and sizes[0] >= 1,
           f"config.serve.batch_sizes is {sizes}; expected ascending sizes, e.g. (1, 2, 4)")  # fmt: skip
    if problems:
        raise ConfigError("; ".join(problems))


def _get(config: ConfigDict, dotted: str):
    for part in dotted.split("."):
        config = config[part]
    return config


def _either(names) -> str:
    return " or ".join(names)
