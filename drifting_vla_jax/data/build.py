"""Command line: demonstrations -> a data set.

    python -m drifting_vla_jax.data.build --source=NAME --help             # the flags of a source
    python -m drifting_vla_jax.data.build --source=metaworld --tasks=drawer-open,door-open --episodes=40 --out=data/mine
    python -m drifting_vla_jax.data.build --source=lerobot --input=OWNER/NAME --mapping=ee_euler --out=data/arm
    python -m drifting_vla_jax.data.build --config=quickstart --episodes=60
    python -m drifting_vla_jax.data.build --source=my_lab.my_file:MySource --out=data/mine

Every source writes a TFDS data set. Stopped and started again it goes on with what is missing; a finished data set is left
alone, and refused where its recordings have changed since. ``data/sources`` lists the sources; their flags are the fields of
their settings. What --config says holds where no flag says otherwise: env.name, env.tasks, env.cameras, env.image_size and
env.frame_skip, as far as the source has such flags, and data.path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.config import files as config_files
from drifting_vla_jax.core import cli, paths, ranges, registry
from drifting_vla_jax.core import settings as settings_lib
from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.data import sources
from drifting_vla_jax.data.sources.base import Source

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)
MAY_CHANGE = ("workers", "gate")  # settings that a finished data set does not depend on
CONFIGURED = ("tasks", "cameras", "image_size", "frame_skip")  # flags that --config sets, keys of config.env


def define_flags(argv: Sequence[str] = (), values: flags.FlagValues = FLAGS) -> None:
    """The flags of the command and those of the source that ``argv`` asks for.

    Raises:
      ValueError: there is no such source, or it has no such flag.
    """
    flags.DEFINE_string(
        "source", None, f"where the demonstrations come from: {', '.join(sources.SOURCES)}, or an import path module:Class; "
        "--source=NAME --help shows its flags; default: config.env.name", flag_values=values)  # fmt: skip
    cli.define_path(
        "out", None, "directory of the data set; default: config.data.path", writes="folder", flag_values=values
    )
    config_files.define_flag("configuration whose source, tasks, views and folder are taken", False, values)
    flags.DEFINE_bool("keep_episodes", False, "keep the episode files beside the data set", flag_values=values)
    name = _asked(argv)
    if name:
        source = sources.load(name)
        flags.declare_key_flag("config", values)
        cli.define_settings(source.Settings, defaults=source.defaults(), flag_values=values)
        _check_foreign(argv, source, values)


def _asked(argv: Sequence[str]) -> str | None:
    """The source that a command line names, itself or by its configuration; None if it only asks for help."""
    found = flags.FlagValues()
    for name in ("source", "config", "config.env.name"):
        flags.DEFINE_string(name, None, "", flag_values=found)
    rest = found(list(argv) or [""], known_only=True)[1:]
    if found.source or found["config.env.name"].value:
        return found.source or found["config.env.name"].value
    if found.config:
        name = config_files.load(found.config).env.name
        if name in sources.SOURCES or registry.is_path(name):
            return name
        raise ValueError(
            f"--source is missing; {name}, the simulator of --config, has no scripted experts: {_expected()}"
        )
    if argv and not any(re.match("--?help", word) for word in rest):
        raise ValueError(f"--source is missing; {_expected()}, or --config=FILE")
    return None


def _expected() -> str:
    return f"expected one of {', '.join(sources.SOURCES)}"


def _check_foreign(argv: Sequence[str], source: Source, values: flags.FlagValues) -> None:
    """Raises ValueError for a flag that other sources have and this one has not."""
    given = [match[1] for word in argv[1:] if (match := re.match(r"--?(?!config\.)(\w+)", word))]
    for name in (name for name in given if not {name, name.removeprefix("no")} & set(values)):
        owners = [other for other in sources.SOURCES if {name, name.removeprefix("no")} & set(_flags_of(other))]
        if owners:
            raise ValueError(f"--{name} is for --source={', '.join(owners)}; --source={source.name} has no such choice")


def _flags_of(source: str) -> Mapping[str, settings_lib.Option]:
    try:
        return settings_lib.options(sources.load(source).Settings)
    except ImportError:  # an extra that is not installed
        return {}


def read_settings(values: flags.FlagValues = FLAGS) -> tuple[str, Any]:
    """The source's name and the settings that the command line asks for.

    Raises:
      ValueError: something is missing, or a value makes no sense.
    """
    source = sources.load(values.source or values.config.env.name)
    rows, chosen = settings_lib.rows(source.Settings), {}
    configured = _configured(values.config, rows) if values.config else {}
    for name in settings_lib.options(source.Settings):
        value = values[name].value if values[name].present else configured.get(name, values[name].value)
        chosen[name] = tuple(value) if isinstance(value, list) else value
    missing = [f"--{name}={_example(rows[name])}" for name, value in chosen.items() if value is None]
    if missing:
        raise ValueError(f"--source={source.name} needs {' and '.join(missing)}; see --source={source.name} --help")
    return source.name, source.settings(chosen)


def _configured(config: ConfigDict, rows: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of the settings with these ranges."""
    found = {name: config.env[name] for name in CONFIGURED if name in rows}
    wrong = [said for name, value in found.items() if (said := ranges.said(f"config.env.{name}", value, rows[name]))]
    settings_lib.require(not wrong, "; ".join(wrong))
    return {name: tuple(value) if isinstance(value, (list, tuple)) else value for name, value in found.items()}


def _example(row: Any) -> str:
    if isinstance(row, ranges.Place):
        return row.what
    return "NAME,..." if isinstance(row, ranges.Many) else "VALUE"


def read_out(values: flags.FlagValues = FLAGS) -> Path:
    """Where the data set is to be; raises ValueError if nothing says it."""
    if values.out:
        return Path(values.out)
    if values.config is None or values.config.data.mixture.paths:
        raise ValueError("--out is missing; expected a directory, or --config=FILE with the data.path of one data set")
    path = paths.user_path(values.config.data.path)
    paths.writable(path, True)
    return Path(path)


def build(settings: Any, out: Path, source: str, keep_episodes: bool) -> Path:
    """Collects what is missing and writes the data set, unless it is there; returns its folder.

    Raises:
      ValueError: a finished data set is there that was made with other settings, or of other recordings than there are now.
      InUseError: another process builds there.
    """
    finished = (out / "demonstrations" / "1.0.0" / "metadata.json").is_file()  # may be read-only
    with contextlib.nullcontext() if finished else owned(out):
        return _build(settings, out, source, keep_episodes)


def _build(settings: Any, out: Path, source: str, keep_episodes: bool) -> Path:
    folder = out / "demonstrations" / "1.0.0"
    if (folder / "metadata.json").is_file():
        metadata = _metadata(folder)
        _check_same(metadata, source, settings, out)
        _check_content(metadata["details"], source, settings, folder)
        return folder
    splits, about = sources.load(source).collect(settings, out)
    from drifting_vla_jax.data import tfds_writer
    from drifting_vla_jax.data.sources import episode_checks

    episode_checks.check_rate(about.control_hz)
    episode_checks.check_files(splits)
    details = dict(about.details) | {"settings": _as_json(settings)}
    folder = tfds_writer.write(out, splits, dataclasses.replace(about, details=details))
    if not keep_episodes:
        shutil.rmtree(out / ".episodes")
    return folder


def _metadata(folder: Path) -> dict:
    kinds = {"source": str, "details": dict, "episodes": dict, "state_names": list}
    return read_dict(folder / "metadata.json", kinds, advice="build the data set again")


def _as_json(settings: Any) -> dict[str, Any]:
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    if values.get("input") and Path(values["input"]).exists():
        values["input"] = str(Path(values["input"]).resolve())
    return values


def _check_same(metadata: dict, source: str, settings: Any, out: Path) -> None:
    made = {"source": metadata["source"], **metadata["details"].get("settings", {})}
    wanted = {"source": source, **_as_json(settings)}
    changed = [f"{key} {made[key]} -> {value}" for key, value in wanted.items()
               if key not in MAY_CHANGE and made.get(key, value) != value]  # fmt: skip
    if changed:
        raise ValueError(f"{out} holds a data set made with other settings ({'; '.join(changed)}); choose another --out, "
                         "or remove it")  # fmt: skip


def _check_content(details: dict, source: str, settings: Any, folder: Path) -> None:
    """That the recordings are still those that the data set was made of; where nobody can tell any more, that is said."""
    otherwise = _recorded_otherwise(details.get("recorded", {}), settings)
    if otherwise:
        log.warning("%s is left as it is; it would be recorded otherwise now: %s", folder, "; ".join(otherwise))
    made = details.get("content")
    if made is None:
        return
    try:
        now = sources.load(source).content(settings, details)
    except (ValueError, OSError, RuntimeError) as error:  # deleted to save room, damaged, or out of reach
        log.warning("%s is left as it is; whether its recordings have changed cannot be told: %s", folder, error)
        return
    if now and now["fingerprint"] != made["fingerprint"]:
        raise ValueError(
            f"{settings.input} has other recordings now ({now['episodes']} episodes) than {folder} was made of "
            f"({made['episodes']}); choose another --out, or remove {folder.parent} to build it again"
        )


def _recorded_otherwise(before: dict, settings: Any) -> list[str]:
    """What a simulator's episodes depend on and has changed: versions, mostly; nothing where it is not installed."""
    try:
        now = settings.recorded() if before else {}
    except importlib.metadata.PackageNotFoundError:
        return []
    return [f"{name} {value} -> {now.get(name)}" for name, value in before.items() if now.get(name) != value]


def summary(folder: Path) -> str:
    """A few lines about a data set: its tasks, what was dropped, what the replay gate said, how to train on other layouts."""
    metadata = _metadata(folder)
    steps = sum(e["length"] for split in metadata["episodes"].values() for e in split)
    lines = [*sources.load(metadata["source"]).lines(metadata["details"]), f"{steps} steps in {folder}"]
    if "val" not in metadata["episodes"]:
        lines.append("no episode is held out: training on it reports no validation errors and draws no figures")
    layout = ActionLayout.from_json(metadata.get("layout"))
    if layout != END_EFFECTOR:
        keys = {"action.layout": layout.name, "action.joints": layout.joints, "action.grippers": layout.grippers}
        keys["env.state_dim"] = len(metadata["state_names"])
        lines += [f"config.{key} = {value!r}" for key, value in keys.items() if value]
    return "\n".join(lines)


def main(_) -> None:
    source, settings = read_settings()
    print(summary(build(settings, read_out(), source, FLAGS.keep_episodes)))


if __name__ == "__main__":
    try:
        define_flags(sys.argv)
    except cli.USER_ERRORS as error:
        cli.fail(error)
    cli.run(main)
