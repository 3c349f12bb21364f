"""Command line: a data set as one page, so that wrong data are seen before they are trained on.

    python -m drifting_vla_jax.report.dataset.page --data=data/mine [--split=train] [--tasks=a,b] [--episodes=12]

Writes DATA/report/episodes.html, one file that opens anywhere: what the checks found and where, tasks, the distribution of every
number, and some episodes in full, those with the gravest findings first. States and actions are read entirely; images of
at most 20,000 time steps (``images.py`` has the rule).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.envs.base import ACTION_NAMES
from drifting_vla_jax.report import html as template
from drifting_vla_jax.report.dataset import datasheet
from drifting_vla_jax.report.dataset import images as frames
from drifting_vla_jax.report.dataset import reader as demonstrations
from drifting_vla_jax.report.dataset.checks.finding import Facts, Finding
from drifting_vla_jax.report.dataset.checks.registry import SEVERITIES, Check, run_checks
from drifting_vla_jax.report.dataset.reader import Demonstration, Key
from drifting_vla_jax.report.run.page import VIDEO_BUDGET

FLAGS = flags.FLAGS
EPISODES = 12
PLOTTED = 800  # steps of an episode in its plots

Results = list[tuple[Check, list[Finding]]]


def write_page(
    path: Path,
    out: Path | None = None,
    *,
    splits: Sequence[str] = (),
    tasks: Sequence[str] = (),
    episodes: int = EPISODES,
    budget: int = VIDEO_BUDGET,
    quiet: bool = True,
) -> tuple[Path, Results]:
    """Writes the page of a data set, atomically.

    Args:
      path: directory of the data set.
      out: the HTML file; path/report/episodes.html if None.
      splits, tasks: what to look at; empty is all.
      episodes: how many are shown in full.
      budget: bytes of the page that films may take; shown episodes beyond it have stills alone.

    Returns:
      The page, and what every check found.

    Raises:
      FileNotFoundError: no data set there.
      ValueError: a split or a task that it does not have.
    """
    data = demonstrations.open_data(path)
    chosen = demonstrations.read_demonstrations(data, splits, tasks)
    looked = frames.to_look_at(chosen)
    seen = frames.look(data, looked, lambda members: _progress(members, "images", quiet))
    about = data.metadata
    results = run_checks(chosen, Facts(about["control_hz"], tuple(about["state_names"]), seen))
    shown = to_show(chosen, results, episodes)
    panels, left = [], budget
    for episode in _progress(shown, "films", quiet):
        panels.append(_panel(data, episode, results, left))
        left -= len(panels[-1]["film"])
    page = out or Path(path) / "report" / "episodes.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = template.render(
        "episodes.html.jinja",
        name=Path(path).resolve().name,
        lead=_lead(results, len(chosen)),
        tiles=_tiles(chosen, results, about["control_hz"]),
        facts=datasheet.facts(data, chosen),
        built=datasheet.built(data),
        results=results,
        looked=_looked(looked, chosen),
        splits=list(dict.fromkeys(e.split for e in chosen)),
        tasks=datasheet.tasks(chosen),
        numbers=(
            ("Actions", datasheet.dimensions(np.concatenate([e.actions for e in chosen]), ACTION_NAMES)),
            ("State", datasheet.dimensions(np.concatenate([e.state for e in chosen]), about["state_names"])),
        ),
        episodes=panels,
        groups=[{"charts": _charts(e, about["state_names"], results)[0]} for e in shown],
        shown=[e.key for e in shown],
        total=len(chosen),
        left_out=sum(not panel["film"] for panel in panels),
        cameras=data.cameras,
    )
    write_atomically(page, text)
    return page, results


def to_show(episodes: Sequence[Demonstration], results: Results, count: int) -> list[Demonstration]:
    """At most ``count`` episodes: up to two thirds for the gravest findings, each check in turn, the rest evenly over tasks."""
    places = [[f.episode for f in found if f.episode] for check, found in results if check.severity != SEVERITIES[-1]]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*places))
    outliers = list(dict.fromkeys(key for key in turns if key))[: max(1, 2 * count // 3) if count else 0]
    groups = demonstrations.by_task([e for e in episodes if e.key not in outliers]).values()
    spread = [[members[i] for i in frames.evenly(len(members), count)] for members in groups]
    others = [e for turn in itertools.zip_longest(*spread) for e in turn if e]
    by_key = {e.key: e for e in episodes}
    return [*(by_key[key] for key in outliers), *others][:count]


def _panel(data, episode: Demonstration, results: Results, budget: int) -> dict[str, Any]:
    """What the template shows of one episode."""
    split, hz = data.split(episode.split), data.metadata["control_hz"]
    stills, strip = frames.strip(split, episode)
    film = frames.film(split, episode, hz) if budget > 0 else ""
    return {
        "split": episode.split,
        "index": episode.index,
        "task": episode.task,
        "variation": episode.variation,
        "seed": episode.seed,
        "steps": len(episode),
        "duration": len(episode) / hz,
        "instructions": episode.instructions,
        "findings": _of(episode.key, results),
        "stills": stills,
        "strip": strip,
        "film": film if len(film) <= budget else "",
        "every": _charts(episode, data.metadata["state_names"], results)[1],
    }


def _of(key: Key, results: Results) -> list[tuple[Check, Finding]]:
    return [(check, finding) for check, found in results for finding in found if finding.episode == key]


def _charts(episode: Demonstration, names: Sequence[str], results: Results) -> tuple[list[dict], int]:
    """(the plots of an episode as charts.js draws them, every how many steps)."""
    marks = sorted({f.step for _, f in _of(episode.key, results) if f.step is not None})
    every = -(-len(episode) // PLOTTED)
    steps = sorted({*range(0, len(episode), every), *marks})
    about = {"log": None, "steps": steps, "marks": marks, "sync": f"{episode.split}-{episode.index}"}

    def line(label: str, run: int, part: int, values: np.ndarray) -> dict:
        picked = [round(float(v), 5) if np.isfinite(v) else None for v in values[steps]]
        return {"label": label, "run": run, "part": part, "values": picked}

    def moved(positions: np.ndarray) -> np.ndarray:
        return 100 * np.concatenate([[0.0], np.linalg.norm(np.diff(positions, axis=0), axis=1)])

    action, state = episode.actions, episode.state
    position = [line(name, 0, i, action[:, i]) for i, name in enumerate("xyz")]
    position += [line(f"{name} state", 1, i, state[:, i]) for i, name in enumerate("xyz")]
    speed = [line("target", 0, 0, moved(action[:, :3])), line("state", 1, 0, moved(state[:, :3]))]
    rotation = [line(name, 0, i, action[:, 3 + i]) for i, name in enumerate(ACTION_NAMES[3:7])]
    gripper = [line("action", 0, 0, action[:, 7])]
    if "gripper" in names:
        gripper.append(line("state", 1, 0, state[:, list(names).index("gripper")]))
    return [
        about | {"title": title, "unit": unit, "lines": lines}
        for title, unit, lines in (
            ("position", "m", position),
            ("moved in one step", "cm", speed),
            ("rotation", "quaternion", rotation),
            ("gripper", "0 closed .. 1 open", gripper),
        )
    ], every


def _lead(results: Results, count: int) -> str:
    kinds = {
        severity: sum(bool(found) for check, found in results if check.severity == severity) for severity in SEVERITIES
    }
    wrong, suspicious, notes = kinds.values()
    if not wrong and not suspicious:
        return f"No check found anything wrong or suspicious in {count:,} episodes" + (
            f"; {notes} have a note." if notes else "."
        )
    parts = [f"{wrong} kinds of wrong data" if wrong != 1 else "1 kind of wrong data"] if wrong else []
    parts += (
        [f"{suspicious} kinds of suspicious data" if suspicious != 1 else "1 kind of suspicious data"]
        if suspicious
        else []
    )
    return f"{' and '.join(parts)} in {count:,} episodes: look at the findings before training on it."


def _tiles(episodes: Sequence[Demonstration], results: Results, hz: float) -> list[tuple[str, str, str]]:
    steps = sum(map(len, episodes))
    concerned = {f.episode for check, found in results if check.severity != SEVERITIES[-1] for f in found if f.episode}
    splits = {split: sum(e.split == split for e in episodes) for split in dict.fromkeys(e.split for e in episodes)}
    return [
        ("episodes", f"{len(episodes):,}", ", ".join(f"{n:,} {split}" for split, n in splits.items())),
        ("steps", f"{steps:,}", f"{steps / hz / 60:.1f} minutes at {hz:g} Hz"),
        (
            "tasks",
            str(len({e.task for e in episodes})),
            f"{len({t for e in episodes for t in e.instructions})} instructions",
        ),
        ("with findings", f"{len(concerned):,}", "episodes that something wrong or suspicious was found in"),
    ]


def _looked(looked: Sequence[Demonstration], episodes: Sequence[Demonstration]) -> str:
    which = "every" if len(looked) == len(episodes) else f"{len(looked):,} evenly spread of {len(episodes):,}"
    return (
        f"{which} episode{'s' if which != 'every' else ''}; each file compared with the next, {frames.LOOK_DECODED} per episode "
        "and camera decoded, and whichever file is much smaller than the others."
    )


def _progress(members: Sequence, what: str, quiet: bool) -> Sequence:
    return tqdm(members, desc=what, unit=" episodes", leave=False, disable=quiet, mininterval=1)


def main(_) -> None:
    start = time.perf_counter()
    page, results = write_page(
        Path(FLAGS.data),
        Path(FLAGS.out) if FLAGS.out else None,
        splits=FLAGS.split,
        tasks=FLAGS.tasks,
        episodes=FLAGS.episodes,
        budget=int(FLAGS.video_mb * 2**20),
        quiet=False,
    )
    for check, found in results:
        if found:
            print(
                f"{check.severity:10s}  {check.name}: {len(found)}, {found[0].task} {_where(found[0])}: {found[0].text}"
            )
    print(f"page     {page}  ({page.stat().st_size / 2**20:.1f} MB; {time.perf_counter() - start:.1f} s)")


def _where(finding: Finding) -> str:
    if not finding.episode:
        return "(all episodes)"
    split, number = finding.episode
    return f"({split} {number}{f', step {finding.step}' if finding.step is not None else ''})"


if __name__ == "__main__":
    cli.define_path("data", None, "directory of the data set", required=True)
    flags.DEFINE_list("split", [], "splits to look at, comma-separated (default: all)")
    flags.DEFINE_list("tasks", [], "tasks to look at, comma-separated (default: all)")
    flags.DEFINE_integer("episodes", EPISODES, "episodes shown in full", *ranges.SEVERAL.bounds)
    cli.define_path("out", None, "the HTML file (default: DATA/report/episodes.html)", writes="file")
    flags.DEFINE_float(
        "video_mb", VIDEO_BUDGET / 2**20, "size of the page that films may take", *ranges.MEGABYTES.bounds
    )
    cli.run(main)
