"""Where configurations come from: a user's own file anywhere, one of the project's by its name, or the config.json of a run.

``from configs import base`` in such a file finds the project's own from any folder, installed or not; so does
``from drifting_vla_jax.configs import base``. In a folder called ``configs`` its own files come first.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import re
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from drifting_vla_jax.config.migration import renamed
from drifting_vla_jax.core import paths
from drifting_vla_jax.core.suggest import did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = ("configs", f"{PACKAGE.name}.configs")  # what files of configurations import from
PLUGIN_SECTIONS = (
    "objective",
    "env",
    "model.vision",
    "model.text",
)  # sections with a section of its own for each plug-in
_OURS = ("config_file.", *(f"{package}." for package in PACKAGES))


def shipped() -> Path | None:
    """The folder of the project's own configurations: within an installed package, beside it in a checkout."""
    places = (PACKAGE / "configs", PACKAGE.parent / "configs")
    return next((place for place in places if (place / "base.py").is_file()), None)


def known() -> list[str]:
    """The names of the project's own configurations."""
    folder = shipped()
    return sorted(path.stem for path in folder.glob("[!_]*.py")) if folder else []


def define_flag(
    text: str = "a file of configs/, its name alone, or a file of your own",
    required: bool = True,
    values: flags.FlagValues = flags.FLAGS,
) -> None:
    """Defines --config and its overrides --config.key=value."""
    config_flags.DEFINE_config_file("config", None, text, values, lock_config=True)
    values["config"].parser = _Parser()
    if required:
        flags.mark_flag_as_required("config", values)


class ConfigFileError(ValueError):
    """A file that gives no configuration; the message names it and, where there is one, the line."""


class _Parser(flags.ArgumentParser):
    def parse(self, path: str) -> ConfigDict:
        overrides = [argument for argument in sys.argv[1:] if argument.lstrip("-").startswith("config.")]
        if line := renamed(" ".join(argument.partition("=")[0] for argument in overrides)):
            raise ConfigFileError(line)
        return load(path)


def load(text: str) -> ConfigDict:
    """The configuration that FILE, FILE:ARGUMENT or NAME means, locked; its values are not checked yet.

    Raises:
      FileNotFoundError: there is none.
      ConfigFileError: the file cannot be run, has no get_config(), or its keys are not those of configs/base.py.
    """
    path, argument = _find(text)
    config = _of_run(path) if path.suffix == ".json" else _of_code(path, argument)
    if base := _base(path):
        there, expected = [key for key in _keys(config) if not _of_plugin(key, base)], list(_keys(base))
        if unknown := [key for key in there if key not in expected]:
            raise ConfigFileError(
                f"{path} has a key of its own, {unknown[0]}: {did_you_mean(unknown[0], expected, 'known are')}"
            )
        if missing := [key for key in expected if key not in there]:
            raise ConfigFileError(
                f"{path} lacks {', '.join(missing[:5])}; start from base.get_config() of configs/base.py"
            )
    return config.lock()


def _of_plugin(key: str, base: ConfigDict) -> bool:
    """Whether a key is in a section of its own that a plug-in from outside the package reads."""
    for section in PLUGIN_SECTIONS:
        own, dot, _ = key.removeprefix(f"{section}.").partition(".")
        if key.startswith(f"{section}.") and dot and own not in functools.reduce(getattr, section.split("."), base):
            return True
    return False


def _keys(config: ConfigDict, prefix: str = "") -> Iterator[str]:
    for key in config:
        part = config[key]
        yield from _keys(part, f"{prefix}{key}.") if isinstance(part, ConfigDict) else [f"{prefix}{key}"]


def _find(text: str) -> tuple[Path, list[str]]:
    """The file, and what is given to its get_config()."""
    name, argument = paths.user_path(text), []
    if not Path(name).is_file() and (split := re.fullmatch(r"(.+?\.py|[\w-]+):(.*)", name)):
        name, argument = split[1], [split[2]]
    own = re.fullmatch(r"(?:configs/)?([\w-]+?)(?:\.py)?", name)
    path = Path(name)
    if not path.is_file() and own and own[1] in known():
        path = shipped() / f"{own[1]}.py"
    if path.is_dir():
        inside = next((file for file in ("config.json", "base.py") if (path / file).is_file()), "NAME.py")
        raise ConfigFileError(f"{path} is a folder; expected a file, such as {path / inside}")
    if not path.is_file():
        near = (
            f"did you mean {name}.py?"
            if Path(f"{name}.py").is_file()
            else did_you_mean(path.stem, known(), "by name there are")
        )
        raise FileNotFoundError(f"no configuration file {name}; {near}")
    return path, argument


def _of_run(path: Path) -> ConfigDict:
    """What a run was made with, from its config.json."""
    from drifting_vla_jax.config.io import from_json  # which loads JAX

    try:
        return from_json(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigFileError(f"{path} is not the config.json of a run ({error!r:.100})") from error


def _of_code(path: Path, argument: Sequence[str] = ()) -> ConfigDict:
    module = types.ModuleType("config_file")
    module.__file__ = str(path)
    with _importing(path):
        sys.modules[module.__name__] = module
        try:
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
            if not callable(getattr(module, "get_config", None)):
                raise ConfigFileError(f"{path} has no get_config(); expected a function that returns a ConfigDict")
            config = module.get_config(*argument)
        except ConfigFileError:
            raise
        except (Exception, SystemExit) as error:  # whatever somebody's own file raises
            raise ConfigFileError(_where(error, path)) from error
    if not isinstance(config, ConfigDict):
        what = "nothing; is its return missing?" if config is None else f"a {type(config).__name__}"
        raise ConfigFileError(f"get_config() of {path} returned {what}; expected a ConfigDict")
    return config


def _where(error: BaseException, path: Path) -> str:
    """The error in a line, with the place in the user's own file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}, line {error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = f", line {frames[-1].lineno}" if frames else ""
    if isinstance(error, AttributeError) and frames and (new := renamed(frames[-1].line or "")):
        return f"{path}{line}: {new}"
    said = re.sub(r" ?Other fields present:.*?(?=Did you mean|$)", " ", str(error), flags=re.DOTALL)  # ml_collections
    return f"{path}{line}: {type(error).__name__}: {said.strip()}"


def _base(path: Path) -> ConfigDict | None:
    """Every key there is, with its default."""
    folder = shipped() or (path.parent if (path.parent / "base.py").is_file() else None)
    return _of_code(folder / "base.py") if folder else None


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ``configs.NAME`` for one file of configuration, which is not taken for what it starts from itself."""

    def __init__(self, path: Path):
        own, theirs = path.resolve().parent, shipped()
        others = [folder for place in sys.path if (folder := Path(place, "configs")).is_dir()]
        places = {PACKAGES[0]: [own, theirs] if own.name == "configs" else [theirs, own], PACKAGES[1]: [theirs, own]}
        self._path = path.resolve()
        self._folders = {name: [folder for folder in [*first, *others] if folder] for name, first in places.items()}

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name in PACKAGES:
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(folder) for folder in self._folders[name]]
            return spec
        package, _, module = name.rpartition(".")
        if package not in PACKAGES:
            return None
        files = [file for folder in self._folders[package] if (file := folder / f"{module}.py").is_file()]
        file = next((file for file in files if file != self._path), files[0] if files else None)
        return importlib.util.spec_from_file_location(name, file) if file else None


@contextlib.contextmanager
def _importing(path: Path) -> Iterator[None]:
    """Within, what a file of configuration imports is found, its neighbors last; afterwards nothing of it is left behind."""

    def ours() -> list[str]:
        return [name for name in sys.modules if f"{name}.".startswith(_OURS)]

    before, finder, folder = {name: sys.modules.pop(name) for name in ours()}, _Finder(path), str(path.resolve().parent)
    sys.meta_path.insert(0, finder)
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(folder)
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)
