"""What the study asks, and the page that answers: jobs out, results in, tables and pictures written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from drifting_vla_jax.studies.drifting import plots as figures
from drifting_vla_jax.studies.drifting import runs as trials
from drifting_vla_jax.studies.drifting import toy_2d
from drifting_vla_jax.studies.drifting.runs import RULES, Outcome, Trial
from drifting_vla_jax.studies.drifting.synthetic_chunks import SyntheticChunks

METHODS = ("drifting", "flow matching", "regression")
HORIZONS = (4, 16, 32)  # chunks of 16, 64 and 128 numbers
SAMPLES = (2, 4, 8, 16)
TOY_STEPS = 600
COLUMNS = ("energy distance", "near no mode", "minority", "energy score", "sample error")

Job = Trial | toy_2d.Toy
Results = Mapping[Job, Outcome | toy_2d.Drifted]


def run(job: Job) -> Outcome | toy_2d.Drifted:
    """Does one job, in a process of its own."""
    return trials.run(job) if isinstance(job, Trial) else toy_2d.run(job, TOY_STEPS)


@dataclass(frozen=True)
class Study:
    """Which parts, how many seeds, how many steps."""

    parts: tuple[str, ...]
    seeds: int
    steps: int

    def trial(self, objective: str, seed: int, **changes) -> Trial:
        return Trial(objective, seed, self.steps, **changes)

    def jobs(self) -> list[Job]:
        """Everything that can start at once, the longest first, nothing twice."""
        jobs: list[Job] = []
        if "toys" in self.parts:
            jobs += toy_2d.TOYS + toy_2d.ANNEALED
        if "chunks" in self.parts:
            jobs += self._chunks()
        if "samples" in self.parts:
            jobs += [self.trial("drifting", s, samples=g) for g in SAMPLES for s in range(self.seeds)]
        if "temperatures" in self.parts:
            jobs += [t for bimodal in (True, False) for rule in RULES for t in self._rule(rule, bimodal)]
        return list(dict.fromkeys(jobs))

    def jobs_of_equal_time(self, results: Results) -> list[Job]:
        """The other objectives again, for as many steps as take the seconds that drifting took."""
        return list(self._equal_time(results).values()) if "chunks" in self.parts else []

    def _chunks(self) -> list[Trial]:
        return [self.trial(o, s, horizon=h) for h in reversed(HORIZONS) for o in METHODS for s in range(self.seeds)]

    def _rule(self, rule: str, bimodal: bool) -> list[Trial]:
        return [self.trial("drifting", s, rule=rule, bimodal=bimodal) for s in range(self.seeds + 1)]

    def _equal_time(self, results: Results) -> dict[tuple[str, int], Trial]:
        out = {}
        for s in range(self.seeds):
            budget = results[self.trial("drifting", s)].seconds
            for objective in METHODS[1:]:
                took = results[self.trial(objective, s)].seconds
                out[objective, s] = Trial(objective, s, max(200, int(self.steps * budget / took)))
        return out

    def write(self, results: Results, out: Path) -> str:
        """DIR/study.md, study.json and the pictures; returns the page."""
        page = [f"# The drifting objective, studied\n\nTrainings of {self.steps} steps, {self.seeds} seeds.\n"]
        if "toys" in self.parts:
            page.append(self._toys(results, out))
        if "chunks" in self.parts:
            page.append(self._chunks_section(results, out))
        if "samples" in self.parts:
            rows = {f"g = {g}": [self.trial("drifting", s, samples=g) for s in range(self.seeds)] for g in SAMPLES}
            page.append("## Samples per observation\n\nChunks of 64, two ways.\n\n" + _table(rows, results))
        if "temperatures" in self.parts:
            page.append("## Temperatures\n")
            for bimodal, title in ((True, "Two ways"), (False, "One way")):
                rows = {rule: self._rule(rule, bimodal) for rule in RULES}
                page.append(f"{title}, chunks of 64, {self.seeds + 1} seeds.\n\n" + _table(rows, results))
        text = "\n".join(page)
        (out / "study.md").write_text(text)
        (out / "study.json").write_text(json.dumps([_as_json(result) for result in results.values()], indent=1) + "\n")
        return text

    def _toys(self, results: Results, out: Path) -> str:
        pairs = [(results[a], results[b]) for a, b in zip(toy_2d.TOYS, toy_2d.ANNEALED, strict=True)]
        figures.toys(pairs, out / "toys.png")
        lines = ["| energy distance | start | end, temperatures fixed | end, annealed from x 10 |", "|---|---|---|---|"]
        for a, b in pairs:
            start, *ends = a.energy_distance[0], a.energy_distance[-1], b.energy_distance[-1]
            lines.append(f"| {a.toy.name} | {start:.3f} | " + " | ".join(f"{end:.3f}" for end in ends) + " |")
        return f"## Two dimensions, {TOY_STEPS} steps\n\n" + "\n".join(lines) + "\n\n![toys](toys.png)\n"

    def _chunks_section(self, results: Results, out: Path) -> str:
        shown = [results[self.trial(objective, 0)] for objective in METHODS]
        truth = np.asarray(SyntheticChunks(16, True).draw(jax.random.key(0), trials.OBSERVATION, 64)[0])
        figures.ways(shown, truth, out / "ways.png")
        text = ["## Two ways of doing it, at equal optimiser steps\n"]
        for h in HORIZONS:
            rows = {o: [self.trial(o, s, horizon=h) for s in range(self.seeds)] for o in METHODS}
            text.append(f"Chunks of {4 * h}.\n\n" + _table(rows, results))
        text.append("![ways](ways.png)\n")
        equal = self._equal_time(results)
        rows = {"drifting": [self.trial("drifting", s) for s in range(self.seeds)]}
        rows |= {o: [equal[o, s] for s in range(self.seeds)] for o in METHODS[1:]}
        text.append("## At equal training time\n\nChunks of 64.\n\n" + _table(rows, results))
        return "\n".join(text)


def _table(rows: Mapping[str, Iterable[Trial]], results: Results) -> str:
    """A row per way of sampling: means over seeds, and of the energy distance the range."""
    lines = ["| | steps | " + " | ".join(COLUMNS) + " | training s |", "|---" * (len(COLUMNS) + 3) + "|"]
    for label, row in rows.items():
        outcomes = [results[trial] for trial in row]
        for way in outcomes[0].figures:
            values = {c: np.array([o.figures[way][c] for o in outcomes]) for c in COLUMNS}
            cells = ["-" if np.isnan(v).any() else f"{v.mean():.3f}" for v in values.values()]
            distance = values[COLUMNS[0]]
            cells[0] += f" ({distance.min():.3f} - {distance.max():.3f})"
            name = label if len(outcomes[0].figures) == 1 else f"{label}, {way}"
            steps = "/".join(dict.fromkeys(str(o.trial.steps) for o in outcomes))
            seconds = np.mean([o.seconds for o in outcomes])
            lines.append(f"| {name} | {steps} | " + " | ".join(cells) + f" | {seconds:.1f} |")
    return "\n".join(lines) + "\n"


def _as_json(result: Outcome | toy_2d.Drifted) -> dict:
    if isinstance(result, Outcome):
        return {"trial": dataclasses.asdict(result.trial), "figures": result.figures, "seconds": result.seconds}
    curve = dict(zip(map(int, result.step), map(float, result.energy_distance), strict=True))
    return {"toy": dataclasses.asdict(result.toy), "energy distance": curve}
