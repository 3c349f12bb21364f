"""Configurations: validate, compare, save. Every key is declared in ``configs/base.py``."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.config.checks import ConfigError, validate
from drifting_vla_jax.config.migration import LATER, migrated
from drifting_vla_jax.core import paths
from drifting_vla_jax.core.files import set_aside, write_atomically
from drifting_vla_jax.core.registry import is_path

log = logging.getLogger(__name__)

PATHS = (  # section, key, may it be an id of the Hugging Face hub; "" stays ""
    *(("data", "path", False), ("data.mixture", "paths", False), ("eval", "demos", False)),
    *(("model.vision", "name", True), ("model.text", "name", True)),
    *(("serve", "tls_certificate", False), ("serve", "tls_key", False)),
)


def from_flag(exported: bool = False) -> ConfigDict:
    """What ``--config=FILE --config.key=value ...`` says, checked; ``exported`` as for ``validate``.

    Raises:
      ConfigError: see ``validate``.
    """
    config = flags.FLAGS.config
    expand_paths(config)
    validate(config, exported)
    return config


def expand_paths(config: ConfigDict) -> None:
    """Every key that is a path becomes the one that is meant, see ``core.paths``.

    Raises:
      ConfigError: it is none of this machine.
    """
    for section, key, hub in PATHS:
        part = functools.reduce(getattr, section.split("."), config)
        try:
            if hub and is_path(part[key]):
                continue  # an encoder of someone's own
            if isinstance(part[key], str):
                part[key] = part[key] and paths.user_path(part[key], hub)
            else:
                part[key] = tuple(paths.user_path(path) for path in part[key])
        except paths.PathError as error:
            raise ConfigError(f"config.{section}.{key}: {error}") from error


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
    """A ConfigDict back from JSON: lists become the tuples they were, and older keys become today's."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(v) for key, v in value.items()}
        return tuple(value) if isinstance(value, list) else value

    if missing := sorted(LATER.keys() - data.keys()):
        raise ValueError(f"no configuration: there is no section {missing[0]!r}")
    return ConfigDict(tuples(migrated(data))).lock()


def config_hash(config: ConfigDict) -> str:
    """12 hex digits that name a configuration."""
    return hashlib.sha256(json.dumps(to_json(config), sort_keys=True).encode()).hexdigest()[:12]


def save(config: ConfigDict, workdir: Path) -> None:
    """Writes WORKDIR/config.json, which reports and ``--config`` read; a run goes on without it where that cannot be."""
    path = Path(workdir) / "config.json"
    try:
        if path.is_dir():
            set_aside(path, "a folder")
        write_atomically(path, json.dumps(to_json(config), indent=2) + "\n")
    except OSError as error:
        log.warning("%s is not written: %s", path, error)


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Keys whose values differ, as "key: old -> new"."""
    a, b = dict(flatten(old)), dict(flatten(new))
    return [f"{key}: {a.get(key)!r} -> {b.get(key)!r}" for key in a | b if a.get(key) != b.get(key)]
