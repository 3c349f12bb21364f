"""Who stands on a page of results: a run, or one once for each number of sampling steps, and its evaluations.

Which folder under RUN/eval answers which condition is in RUN/eval/suite-step<N>.json (``evaluate.suite``); a run without
that file stands there with its newest evaluation alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.evaluate.conditions import PLAIN
from drifting_vla_jax.report.run.reader import Evaluation, Run, objective_title, read_run


@dataclass(frozen=True)
class Entry:
    """One policy of the page.

    Attributes:
      name: as the page calls it: "flow matching (10)".
      evaluations_per_chunk: of the network.
      evaluations: finished ones, by condition.
      suite: of the run, see ``evaluate.suite``; without one, what of it is known.
    """

    run: Run
    name: str
    evaluations_per_chunk: int
    evaluations: Mapping[str, Evaluation]
    suite: Mapping[str, Any]

    @property
    def plain(self) -> Evaluation | None:
        return self.evaluations.get(PLAIN)

    @property
    def step(self) -> int:
        """Of the checkpoint."""
        return self.suite.get("checkpoint_step") or (self.plain.step if self.plain else self.run.steps)

    @property
    def objective(self) -> str:
        return objective_title(self.run.config)

    @property
    def call_ms(self) -> dict[str, float]:
        """{"p50", "p95"} of a call with no simulator running; empty: not measured."""
        return self.suite.get("call_ms", {}).get(str(self.evaluations_per_chunk), {})


def read_entries(workdirs: Sequence[Path]) -> list[Entry]:
    """In the order given; of one run by its network evaluations.

    Raises:
      FileNotFoundError, ValueError: see ``reader.read_run``; a suite's file is damaged; the same run twice.
    """
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise ValueError(f"--runs names a run twice: {', '.join(map(str, workdirs))}")
    entries = [entry for workdir in workdirs for entry in _entries(read_run(workdir))]
    names = [entry.name for entry in entries]
    return [replace(e, name=f"{e.name} {e.run.workdir.name}") if names.count(e.name) > 1 else e for e in entries]


def _entries(run: Run) -> list[Entry]:
    suite = _suite(run.workdir / "eval")
    if not suite:
        found = {PLAIN: run.newest} if run.newest else {}
        evaluations = run.newest.results["evaluations_per_chunk"] if run.newest else _evaluations(run)
        return [Entry(run, _name(run, evaluations), evaluations, found, {})]
    by_folder = {evaluation.folder.name: evaluation for evaluation in run.evaluations}
    by_number: dict[int, dict[str, Evaluation]] = {}
    for row in suite["evaluations"]:
        found = by_number.setdefault(row["evaluations_per_chunk"], {})
        if row["folder"] in by_folder:
            found[row["condition"]] = by_folder[row["folder"]]
    return [Entry(run, _name(run, number), number, by_number[number], suite) for number in sorted(by_number)]


def _name(run: Run, evaluations: int) -> str:
    return f"{objective_title(run.config)} ({evaluations})"


def _evaluations(run: Run) -> int:
    """Per chunk, as training wrote it down; of older runs the steps that the objective's section names, if any."""
    own = run.config.get(f"objective.{run.config['objective.name']}.steps", 1)
    return run.starts[-1].get("evaluations_per_chunk", own) if run.starts else own


def _suite(folder: Path) -> dict[str, Any]:
    """Of the latest checkpoint that has one."""
    steps = {int(path.stem.removeprefix("suite-step")): path for path in folder.glob("suite-step*.json")}
    if not steps:
        return {}
    path = steps[max(steps)]
    kinds = {"checkpoint_step": int, "call_ms": dict, "evaluations": list}
    return read_dict(path, kinds, advice="delete it, evaluate.suite writes it again")
