"""Command line: two evaluations of the same episodes, compared episode by episode.

    python -m drifting_vla_jax.evaluate.compare --a=runs/a/eval/step2000-seed1000000000 --b=runs/b/eval/...

Both policies met the same starts (task, variation, seed), so what counts are the episodes on which they differ. Of n
episodes, let b be solved by A alone and c by B alone:

    difference       B - A = (c - b) / n. Its 95% interval is Newcombe's (1998, method 10): both Wilson intervals, joined
                     with the correlation phi of the pairs
    McNemar's test   two-sided and exact: how probable a split of b + c at least this uneven is if neither is better
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from drifting_vla_jax.core import cli
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.evaluate.statistics import wilson_interval
from drifting_vla_jax.rollout import episode_log

FLAGS = flags.FLAGS

# What two evaluations must share for their episodes to be the same ones.
_SAME = ("environment", "max_steps", "hold_steps")


@dataclass(frozen=True)
class Paired:
    """Episodes that A and B both ran, by who solved them."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[tuple[bool, bool]]) -> Paired:
        """From (A succeeded, B succeeded) of every episode."""
        outcomes = list(outcomes)
        return cls(*(outcomes.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def n(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def successes(self) -> tuple[int, int]:
        """Of A and of B."""
        return self.both + self.only_a, self.both + self.only_b

    @property
    def difference(self) -> float:
        """B's success rate less A's."""
        return (self.only_b - self.only_a) / self.n

    def interval(self) -> tuple[float, float]:
        """95% interval of the difference, within [-1, 1]."""
        a, b = (k / self.n for k in self.successes)
        (low_a, high_a), (low_b, high_b) = (wilson_interval(k, self.n) for k in self.successes)
        phi = self._correlation()
        return (
            self.difference - _joined(b - low_b, high_a - a, phi),
            self.difference + _joined(high_b - b, a - low_a, phi),
        )

    def _correlation(self) -> float:
        """phi of the fourfold table, with Newcombe's correction for continuity where it is positive."""
        rows = (self.both + self.only_a) * (self.only_b + self.neither)
        columns = (self.both + self.only_b) * (self.only_a + self.neither)
        if rows * columns == 0:
            return 0.0
        product = self.both * self.neither - self.only_a * self.only_b
        return (max(product - self.n / 2, 0.0) if product > 0 else product) / math.sqrt(rows * columns)

    def p_value(self) -> float:
        """Of McNemar's exact test; 1 where no episode differs."""
        from scipy.stats import binomtest  # here: the import takes a second

        differ = self.only_a + self.only_b
        return float(binomtest(self.only_b, differ).pvalue) if differ else 1.0


def _joined(x: float, y: float, phi: float) -> float:
    return math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y))


def compare(a: Path, b: Path) -> dict[str, Paired]:
    """By task, and under "all episodes" together: the episodes that both folders hold and that say something.

    Raises:
      FileNotFoundError: a folder is no evaluation.
      ValueError: the evaluations differ in simulator or rules, or share no episode.
    """
    settings = [_settings(folder) for folder in (a, b)]
    for name in _SAME:
        if settings[0][name] != settings[1][name]:
            raise ValueError(f"{a} has {name} {settings[0][name]!r}, {b} has {settings[1][name]!r}: not comparable")
    found = [{key: e["success"] for key, e in episode_log.read_all_episodes(folder).items()} for folder in (a, b)]
    shared = [key for key in found[0] if found[0][key] is not None and found[1].get(key) is not None]
    if not shared:
        raise ValueError(f"{a} and {b} have no episode (task, variation, seed) in common; evaluate with the same seed")
    groups = {task: [key for key in shared if key[0] == task] for task in dict.fromkeys(key[0] for key in shared)}
    groups["all episodes"] = shared
    return {name: Paired.of((found[0][k], found[1][k]) for k in keys) for name, keys in groups.items()}


def _settings(folder: Path) -> dict:
    path = folder / "settings.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no evaluation: there is no {path}")
    return read_dict(path, {})


def format_comparison(groups: Mapping[str, Paired]) -> str:
    """A row per task and one for all."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("task")
    for column in ("A", "B", "only A", "only B", "B - A", "95% interval", "p (McNemar)"):
        table.add_column(column, justify="right")
    for name, paired in groups.items():
        if name == "all episodes":
            table.add_section()
        low, high = paired.interval()
        table.add_row(
            name,
            *(f"{k} / {paired.n}" for k in paired.successes),
            str(paired.only_a),
            str(paired.only_b),
            f"{100 * paired.difference:+.1f} %",
            f"{100 * low:+.1f} .. {100 * high:+.1f} %",
            f"{paired.p_value():.3f}",
        )
    console = Console(width=120)
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().split("\n") if line.strip())


def main(_) -> None:
    groups = compare(Path(FLAGS.a), Path(FLAGS.b))
    print(f"A  {FLAGS.a}\nB  {FLAGS.b}\n\n{format_comparison(groups)}")


if __name__ == "__main__":
    cli.define_path("a", None, "folder of an evaluation", required=True)
    cli.define_path("b", None, "folder of the other", required=True)
    cli.run(main)
