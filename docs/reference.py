"""Reference pages made from the code, so that none goes stale: configuration, command lines, metrics.

mkdocs calls ``on_files`` at every build (``hooks`` in mkdocs.yml). By hand:

    python docs/reference.py                 # prints the pages

Configuration is read from the text of configs/base.py: keys, values and comments. A command's flags are those that it has
when it runs: each command is started in a process of its own, which stops where it would read its command line.
"""

from __future__ import annotations

import ast
import io
import json
import multiprocessing
import re
import runpy
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "drifting_vla_jax"
BASE = ROOT / "configs" / "base.py"
STANDARD = {"traceback"}  # flags of every command, told once


@dataclass(frozen=True)
class Key:
    """A key of the configuration, or a section of them, for which ``default`` is None."""

    name: str
    default: str | None
    comment: str


def keys(source: str) -> list[Key]:
    """The keys of a configuration file in their order; a comment above a section is the section's."""
    comments = {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    function = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    found: list[Key] = []
    last = function.lineno
    for statement in function.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
            continue
        name = ast.unparse(statement.targets[0]).removeprefix("config.")
        above = [comments[line] for line in range(last + 1, statement.lineno) if line in comments]
        own = [comments[line] for line in range(statement.lineno, (statement.end_lineno or 0) + 1) if line in comments]
        section = ast.unparse(statement.value) == "ConfigDict()"
        if above and not section and found:  # a comment that goes on below its key
            found[-1] = Key(found[-1].name, found[-1].default, " ".join([found[-1].comment, *above]))
        default = None if section else ast.get_source_segment(source, statement.value)
        found.append(Key(name, default, " ".join([*(above if section else []), *own])))
        last = statement.end_lineno or statement.lineno
    return found


def configuration() -> str:
    """The page of every configuration key."""
    lines = [
        "# Configuration",
        "",
        "Every key with its default, made from `configs/base.py`. Experiments start from these values and change what they need.",
        "`--config.SECTION.KEY=VALUE` sets a key on the command line.",
        "",
    ]
    sections: dict[str, list[Key]] = {"": []}
    about = {}
    for key in keys(BASE.read_text()):
        if key.default is None:
            sections[key.name], about[key.name] = [], key.comment
        else:
            sections[key.name.rpartition(".")[0]].append(key)
    for section, members in sections.items():
        lines += ["", f"## {section or 'The run'}", ""]
        if about.get(section):
            lines += [sentence(about[section]), ""]
        if members:
            lines += ["| key | default | |", "|---|---|---|"]
            lines += [row(f"`{key.name}`", f"`{key.default}`", key.comment) for key in members]
    return "\n".join(lines) + "\n"


def commands() -> dict[str, str]:
    """{module: docstring} of everything that the documentation starts with ``python -m``."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        text = path.read_text()
        if 'if __name__ == "__main__":' not in text:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        doc = ast.get_docstring(ast.parse(text)) or ""
        if f"python -m {module} " in doc + " " or f"python -m {module}\n" in doc:
            found[module] = doc
    return found


def choices() -> dict[str, list[str]]:
    """{module: what is added to its command line to see flags of one choice alone}."""
    from drifting_vla_jax.data.sources import SOURCES

    return {f"{PACKAGE}.data.build": [f"--source={name}" for name in SOURCES]}


class _Flags(BaseException):
    """Ends a command where it would read its command line; carries its flags."""


def flags_of(module: str, choice: str = "") -> list[dict[str, Any]]:
    """The flags that a command, or a choice of it, defines itself; to be called once in a process, as flags are global."""
    from absl import flags

    from drifting_vla_jax.core import cli

    def stop(*_: Any) -> None:
        own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
        raise _Flags([_described(flag) for flag in own if flag.name not in STANDARD])

    cli.run = stop
    sys.argv[1:] = [choice or "--help"]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except _Flags as found:
        return found.args[0]
    raise RuntimeError(f"{module} did not come to cli.run")


def _described(flag: Any) -> dict[str, str | bool]:
    default = "" if flag.default is None else str(flag.default_as_str or "").strip("'")
    values = getattr(flag.parser, "enum_values", None)
    text = flag.help + (f" ({', '.join(values)})" if values and not all(v in flag.help for v in values) else "")
    return {"name": flag.name, "default": default, "help": text, "boolean": bool(flag.boolean)}


def all_flags() -> dict[str, list[dict[str, Any]]]:
    """{module: its flags} of every command, {module --choice: its flags} of ``choices``."""
    done = subprocess.run([sys.executable, __file__, "--flags"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"the flags of commands cannot be read:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def dump_flags() -> None:
    """Prints ``all_flags`` as JSON. Commands are started in forks of this process, which has loaded what most of them load."""
    import flax.linen  # noqa: F401
    import jax  # noqa: F401

    more = choices()
    jobs = [(module, choice) for module in commands() for choice in ("", *more.get(module, ()))]
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        found = pool.starmap(flags_of, jobs, chunksize=1)
    print(json.dumps({" ".join(filter(None, job)): flags for job, flags in zip(jobs, found, strict=True)}))


def command_lines() -> str:
    """The page of every command and its flags."""
    lines = [
        "# Command lines",
        "",
        "Every command with its flags, made from the commands themselves. `--help` prints the same. Options are written",
        "`--name=value`. Bad input ends a command with one line and a non-zero exit code; `--traceback` shows its origin.",
    ]
    docs = commands()
    found = all_flags()
    for command, flags in found.items():
        module, _, choice = command.partition(" ")
        if choice:
            general = found[module]
            lines += ["", f"### {choice}", ""]
            flags = [flag for flag in flags if flag not in general]
        else:
            lines += ["", f"## {module.removeprefix(PACKAGE + '.')}", "", *_prose(docs[module]), ""]
        lines += ["| flag | default | |", "|---|---|---|"]
        for flag in flags:
            name = f"`--[no]{flag['name']}`" if flag["boolean"] else f"`--{flag['name']}`"
            lines.append(row(name, f"`{flag['default']}`" if flag["default"] else "", flag["help"]))
    return "\n".join(lines) + "\n"


def _prose(doc: str) -> Iterator[str]:
    """A docstring as Markdown: ``double`` backquotes are single ones, angle brackets are text; code stays as it is."""
    for line in doc.splitlines():
        yield line if line.startswith("    ") else plain(line.replace("``", "`"))


def metrics() -> str:
    """The page of what a training logs."""
    from drifting_vla_jax.train.monitoring.meanings import MEANINGS, PREFIXES

    lines = [
        "# Metrics",
        "",
        "What a training writes to `WORKDIR/metrics.jsonl`, WandB and TensorBoard, made from the table that the run's page uses.",
        "A name is `prefix/metric`, or `prefix/metric/part` for one task, one temperature or one data set.",
        "",
        "| prefix | |",
        "|---|---|",
        *(row(f"`{name}`", text) for name, text in PREFIXES.items()),
        "",
        "| metric | unit | |",
        "|---|---|---|",
        *(row(f"`{name}`", meaning.unit, sentence(meaning.text)) for name, meaning in MEANINGS.items()),
    ]
    return "\n".join(lines) + "\n"


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(plain(re.sub(r"\s+", " ", cell)).replace("|", "\\|") for cell in cells) + " |"


def plain(text: str) -> str:
    """Text whose brackets are no link, no tag and no emphasis; `code` in it stays as it is."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\[\]*_])", r"\\\1", part).replace("<", "&lt;") for part in parts
    )


def sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


PAGES = {
    "reference/configuration.md": configuration,
    "reference/command-lines.md": command_lines,
    "reference/metrics.md": metrics,
}


def on_files(files, config):
    """mkdocs: adds the pages."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT))
    for name, make in PAGES.items():
        files.append(File.generated(config, name, content=make()))
    return files


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if "--flags" in sys.argv:
        dump_flags()
    else:
        print("\n".join(make() for make in PAGES.values()))
