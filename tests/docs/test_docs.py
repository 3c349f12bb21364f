"""The front door: README and docs/ build, link and are true to the code; reference pages come from the code itself."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from drifting_vla_jax.train.monitoring.meanings import MEANINGS
from tests.train.test_loop import TRAIN, VALIDATION

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def load(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load("reference")


def values(config, prefix=""):
    """{name: value} of every key."""
    found = {}
    for key, value in config.items():
        found |= values(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {f"{prefix}{key}": value}
    return found


def anchors(path: Path) -> set[str]:
    """What a link into a page may name: its headings as Python-Markdown and GitHub write them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), re.M)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}


def test_configuration_page_has_every_key_with_its_default():
    found = {key.name: key for key in reference.keys(reference.BASE.read_text())}
    defaults = {name: eval(key.default) for name, key in found.items() if key.default is not None}
    assert defaults == values(base.get_config())
    assert "leave" not in found["env.frame_skip"].comment and "robosuite: 500 Hz" in found["env.frame_skip"].comment
    assert "directory of one" in found["model.text.name"].comment  # a comment over two lines
    page = reference.configuration()
    assert all(f"`{name}`" in page for name in defaults)


def test_a_key_without_a_comment_and_a_section_are_read():
    lines = [
        "# Pots.",
        "config.pot = ConfigDict()",
        "config.pot.size = (",
        "    3  # liters",
        ")",
        "config.pot.lid = None",
    ]
    source = "".join(f"    {line}\n" for line in lines)
    assert reference.keys(f"def get_config():\n{source}") == [
        reference.Key("pot", None, "Pots."),
        reference.Key("pot.size", "3", "liters"),
        reference.Key("pot.lid", "None", ""),
    ]


def test_every_metric_of_a_training_has_a_meaning():
    assert {name.split("/")[0] for name in TRAIN | VALIDATION} <= set(MEANINGS)
    assert all(f"`{name}`" in reference.metrics() for name in MEANINGS)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_pictures_of_a_page_exist(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if there.relative_to(DOCS).as_posix() in reference.PAGES if there.is_relative_to(DOCS) else False:
            continue  # made when the documentation is built
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_front_page_is_short_and_its_pictures_are_small():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 140
    assert "bash launch/quickstart.sh" in readme and "bash launch/test.sh" in readme
    films = [DOCS / "assets" / name for name in ("rollouts.gif", "drifting_field.gif")]
    assert all(f"docs/assets/{film.name}" in readme for film in films)
    assert sum(film.stat().st_size for film in films) < 6e6


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        pass

    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", str(nav)))
    found = {p.relative_to(DOCS).as_posix() for p in PAGES[1:]} | set(reference.PAGES)
    assert listed == {name for name in found if not re.match(r"explanation/decisions/\d", name)}
    index = (DOCS / "explanation" / "decisions" / "index.md").read_text()
    assert all(p.name in index for p in (DOCS / "explanation" / "decisions").glob("[0-9]*.md"))


@pytest.fixture(scope="module")
def flags():
    names: dict[str, set[str]] = {}
    for command, found in reference.all_flags().items():
        names.setdefault(command.split()[0], set()).update(flag["name"] for flag in found)
    return names


@pytest.mark.slow
def test_commands_in_the_documentation_exist_with_these_flags(flags):
    """Every ``python -m drifting_vla_jax...`` of README, docs/, launch/ and configs/."""
    everywhere = {"config", "help", "traceback"}
    sources = [*PAGES, *sorted((ROOT / "launch").glob("*.sh")), *sorted((ROOT / "configs").glob("*.py"))]
    for path in sources:
        text = re.sub(r"\\\n\s*", " ", path.read_text())
        for module, rest in re.findall(r"python3? -m (drifting_vla_jax[\w.]*)([^\n`#]*)", text):
            assert module in flags, f"{path.relative_to(ROOT)}: no command {module}"
            for flag in re.findall(r"--(?:no)?([a-z]\w*)", rest):
                known = flags[module] | everywhere
                assert flag in known or f"no{flag}" in known, f"{path.relative_to(ROOT)}: {module} has no --{flag}"


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    pytest.importorskip("mkdocstrings", reason="needs the extra [docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert "train.learning_rate" in (site / "reference/configuration/index.html").read_text()
    assert "--episodes" in (site / "reference/command-lines/index.html").read_text()
    assert "drifting_loss" in (site / "reference/api/index.html").read_text()


def test_the_field_of_the_front_page_carries_samples_to_both_modes():
    media = load("make_media")
    places, arrows, data = media.carried()
    assert places.shape == arrows.shape == (media.FRAMES, media.SAMPLES, 2) and data.shape == (media.DATA, 2)
    away = abs(places[:, :, None] - [[-2.0, 0.0], [2.0, 0.0]])
    near = (away**2).sum(-1) ** 0.5 < 1.0
    assert not near[0].any()
    assert near[-1].any(-1).mean() > 0.85 and near[-1].mean(0).min() > 0.35


def test_a_film_loops_at_its_rate(tmp_path):
    media = load("make_media")
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue", "red")]
    media.write_gif(tmp_path / "film.gif", frames, 12.5, 16)
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"], film.size) == (3, 80, 0, (8, 6))
