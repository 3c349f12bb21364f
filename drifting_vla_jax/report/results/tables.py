"""The tables of a page of results: each once as data, written as HTML by the template and as markdown by ``markdown``.

Success is held, unless a table says latched: true for ``hold_steps`` control steps without a break. Percent, with 95% intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drifting_vla_jax.core.text import shown
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.envs.registry import info_if_known
from drifting_vla_jax.evaluate.compare import Paired
from drifting_vla_jax.evaluate.conditions import PLAIN, Condition, of_environment
from drifting_vla_jax.report.results import rates
from drifting_vla_jax.report.results.entries import Entry
from drifting_vla_jax.report.results.rates import Rate
from drifting_vla_jax.report.run import summary as facts

Cell = str | Rate


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads; the first cell of a row is its name."""

    title: str
    note: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def markdown(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        rows = [table.heads, ["---"] * len(table.heads), *table.rows]
        lines = ["| " + " | ".join(shown(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
        parts.append("\n".join([f"## {table.title}", "", table.note, "", *lines]))
    return "\n\n".join(parts) + "\n"


def runs(entries: Sequence[Entry]) -> Table:
    """What was trained, on what, how long."""
    heads = "run", "parameters trained", "of", "optimiser steps", "batch", "training time", "demonstrations", "data"
    rows = []
    for entry in one_of_each_run(entries):
        run, parameters = entry.run, entry.suite.get("parameters", {})
        data = run.starts[-1]["data"]["episodes"] if run.starts else {}
        minutes = facts.minutes_at(run, entry.step)
        rows.append(
            [
                f"{entry.objective}, {run.workdir.name}",
                *(f"{parameters[key]:,}" if parameters else "-" for key in ("trained", "all")),
                f"{entry.step:,} of {run.config['train.steps']:,}",
                str(run.config["data.batch_size"]),
                "-" if minutes is None else f"{minutes:.0f} min",
                f"{data['train']:,}" if data else "-",
                run.config["data.path"],
            ]
        )
    note = (
        "Training time: from the first step to the checkpoint's, compilation, validations and whatever else the machine did "
        "meanwhile included. Demonstrations: episodes trained on."
    )
    return Table("Runs", note, heads, rows)


def by_group(entries: Sequence[Entry]) -> list[Table]:
    """Two tables: held, all episodes; latched, as others publish it."""
    chosen = [(number, entry) for number, entry in enumerate(entries) if entry.plain]
    if not chosen:
        return []
    known = environment(entries).task_groups
    there = {name for _, entry in chosen for name in entry.plain.tasks}
    groups = {name: [task for task in tasks if task in there] for name, tasks in known.items()}
    groups = {name: tasks for name, tasks in groups.items() if tasks}
    if not groups:
        return []
    complete = len(groups) == len(known)
    heads = ["policy", *(f"{name}, {len(tasks)} of {len(known[name])} tasks" for name, tasks in groups.items())]
    heads += ["mean of the groups"] if complete else []
    found = []
    for key, count in (("success", None), ("latched", rates.PUBLISHED_EPISODES)):
        rows = []
        for number, entry in chosen:
            episodes = rates.counted(entry.plain)
            episodes = rates.first_of_each(episodes, count) if count else episodes
            cells = [
                rates.rate([e for e in episodes if e["task"] in tasks], key, "", number) for tasks in groups.values()
            ]
            if complete and all(isinstance(cell, Rate) for cell in cells):
                cells.append(rates.mean_of(cells, number))
            rows.append([entry.name, *cells])
        found.append(rows)
    settings = chosen[0][1].plain.results["settings"]
    limit = settings["max_steps"] * settings["frame_skip"]
    held = (
        f"Ours: success held for {settings['hold_steps']} control steps, every episode evaluated, at most {limit} simulator "
        "steps, goals that no demonstration had. Wilson's intervals over a group's episodes; every task has as many."
    )
    return [
        Table("Success by difficulty: held", held, heads, found[0]),
        Table(
            "Success by difficulty: the published protocol", _protocol(entries, chosen[0][1], limit), heads, found[1]
        ),
    ]


def conditions(entries: Sequence[Entry]) -> tuple[Condition, ...]:
    """Those that the entries may have been evaluated in."""
    return of_environment(environment(entries))


def environment(entries: Sequence[Entry]) -> EnvInfo:
    """The simulator of the first entry's plain evaluation, which is that of all."""
    plain = next((entry.plain for entry in entries if entry.plain), None)
    return info_if_known(plain.results["settings"]["environment"]) if plain else EnvInfo("")


def _protocol(entries: Sequence[Entry], entry: Entry, limit: int) -> str:
    config, published = entry.run.config, environment(entries).published
    return (
        f"Latched: true at any of at most {limit} simulator steps, the first {rates.PUBLISHED_EPISODES} episodes of each task. "
        f"Ours all the same: {len(config['env.cameras'])} views of {config['env.image_size']} px "
        f"({', '.join(config['env.cameras'])}), one network for {len(config['env.tasks'])} tasks, our own demonstrations and "
        f"seeds of goals. {published.protocol if published else ''}".strip()
    )


def neighbours(entries: Sequence[Entry]) -> list[Table]:
    """What others publish, if anything is known."""
    published = environment(entries).published
    heads = ("policy", "parameters", "success", "protocol", "source", "standing")
    return [Table("Published", published.note, heads, published.rows)] if published else []


def by_task(entries: Sequence[Entry]) -> Table:
    """Held with interval, latched beside."""
    chosen = [(number, entry, rates.counted(entry.plain)) for number, entry in enumerate(entries) if entry.plain]
    names = dict.fromkeys(name for _, entry, _ in chosen for name in entry.plain.tasks)
    rows = [[name, *(_task(number, episodes, name) for number, _, episodes in chosen)] for name in names]
    if chosen:
        rows.append(["all episodes", *(_task(number, episodes) for number, _, episodes in chosen)])
    note = "Held, 95% Wilson intervals; latched: true at any step. Goals that no demonstration had."
    return Table("Success by task", note, ["task", *(entry.name for _, entry, _ in chosen)], rows)


def _task(number: int, episodes: Sequence[dict], name: str = "") -> Cell:
    of_task = [e for e in episodes if name in ("", e["task"])]
    latched = rates.rate(of_task, "latched")
    return rates.rate(of_task, more=f"latched {100 * latched.value:.1f}", colour=number) if of_task else "-"


def reference(entries: Sequence[Entry]) -> Entry | None:
    """Whom the others are compared with: the first evaluated."""
    return next((entry for entry in entries if entry.plain), None)


def pairs(entries: Sequence[Entry]) -> list[Table]:
    """The reference less each other: all episodes, then task by task."""
    ours = reference(entries)
    compared = [(e, rates.paired(e.plain, ours.plain)) for e in entries if ours and e is not ours and e.plain]
    compared = [(entry, groups) for entry, groups in compared if groups]
    if not compared:
        return []
    heads = (
        "against",
        "pairs",
        ours.name,
        "the other",
        f"only {ours.name}",
        "only the other",
        "difference",
        "p",
        "reads",
        "ms",
    )
    rows = []
    for entry, groups in compared:
        every = groups["all episodes"]
        theirs, own = every.successes
        counts = (every.n, own, theirs, every.only_b, every.only_a)
        found = (rates.difference(every), f"{every.p_value():.3f}", _reads(every))
        rows.append([entry.name, *map(str, counts), *found, f"{_call(ours)} / {_call(entry)}"])
    note = (
        f"The same starts. Difference: {ours.name} less the other, in points of success held, with Newcombe's 95% interval; p: "
        "McNemar's exact test; ms: a call of the policy, p50, of both (see Latency)."
    )
    tasks = dict.fromkeys(name for _, groups in compared for name in groups)
    each = [[name, *(_difference(groups, name) for _, groups in compared)] for name in tasks]
    title = f"{ours.name[0].upper()}{ours.name[1:]} less the others, start by start"
    return [
        Table(title, note, heads, rows),
        Table(f"{title}: by task", "As above, in points.", ("task", *(e.name for e, _ in compared)), each),
    ]


def _reads(pairs: Paired) -> str:
    """In words: a difference is one where both the interval and the test say so."""
    low, high = pairs.interval()
    if pairs.p_value() < 0.05 and (low > 0 or high < 0):
        return "better" if low > 0 else f"worse, by at most {-100 * low:.1f} points"
    return f"no difference seen; at most {-100 * low:.1f} points worse" if low < 0 else "better by its interval alone"


def _call(entry: Entry) -> str:
    return _ms((entry.call_ms or entry.plain.results["infer_ms"])["p50"])


def _difference(groups: dict, name: str) -> str:
    return rates.difference(groups[name]) if name in groups else "-"


def changed(entries: Sequence[Entry]) -> Table:
    """What no demonstration has shown."""
    note = (
        "Held; below it the difference from the ordinary evaluation on the same starts, in points with its interval. "
    )
    return _conditions(entries, "changed", "What no demonstration has shown", note)


def late(entries: Sequence[Entry]) -> Table:
    """The world that does not wait."""
    note = (
        f"Held, while the simulator goes on for as long as an answer takes, rounded up to control steps{_step(entries)}; a robot "
        "whose plan has ended holds its last target. Below it: those steps, and the difference from the world that waits. "
    )
    return _conditions(entries, "late", "The world does not wait", note)


def _step(entries: Sequence[Entry]) -> str:
    """How long a control step is, where it is known."""
    rules = [e.plain.results["settings"] for e in entries if e.plain]
    known = [(each["frame_skip"], info_if_known(each["environment"]).simulator_hz) for each in rules]
    lengths = [f"{ms:g}" for ms in sorted({1000 * skip / hz for skip, hz in known if hz})]
    return f" of {' or '.join(lengths)} ms" if lengths else ""


def _conditions(entries: Sequence[Entry], group: str, title: str, note: str) -> Table:
    columns = [c for c in conditions(entries) if c.group in (PLAIN, group)]
    columns = [c for c in columns if any(c.name in e.evaluations for e in entries)]
    rows = [
        [entry.name, *(_condition(number, entry, c) for c in columns)]
        for number, entry in enumerate(entries)
        if any(c.name in entry.evaluations for c in columns[1:])
    ]
    return Table(
        title,
        note + "; ".join(f"{c.name}: {c.about}" for c in columns) + ".",
        ["policy", *(c.name for c in columns)],
        rows,
    )


def _condition(number: int, entry: Entry, condition: Condition) -> Cell:
    evaluation = entry.evaluations.get(condition.name)
    if evaluation is None:
        return "-"
    more = []
    if condition.group == "late":
        steps = evaluation.results["settings"]["delay_steps"]
        more.append(f"{steps} step{'' if steps == 1 else 's'} late")
    groups = rates.paired(entry.plain, evaluation) if condition.name != PLAIN else {}
    more += [rates.difference(groups["all episodes"])] if groups else []
    return rates.rate(rates.counted(evaluation), more="; ".join(more), colour=number)


def by_interval(entries: Sequence[Entry]) -> tuple[Table, dict[str, dict[int, Rate]]]:
    """Success against the number of actions executed of each chunk: the table, and by policy what it shows."""
    found: dict[str, dict[int, Rate]] = {}
    for number, entry in enumerate(entries):
        named = [c.name for c in conditions(entries) if c.group in (PLAIN, "interval")]
        evaluations = [entry.evaluations[name] for name in named if name in entry.evaluations]
        cells = {e.results["settings"]["execute"]: rates.rate(rates.counted(e), colour=number) for e in evaluations}
        cells = {execute: cell for execute, cell in sorted(cells.items()) if isinstance(cell, Rate)}
        if len(cells) > 1:
            found[entry.name] = cells
    columns = sorted({execute for cells in found.values() for execute in cells})
    rows = [[name, *(cells.get(execute, "-") for execute in columns)] for name, cells in found.items()]
    note = "Held, by the number of actions executed of each chunk before the policy is asked again."
    return Table("Success and how often the policy is asked", note, ["policy", *map(str, columns)], rows), found


def latency(entries: Sequence[Entry]) -> Table:
    """Milliseconds: alone, and while simulators ran."""
    heads = (
        "policy",
        "network evaluations",
        "a call alone, p50",
        "p95",
        "in the network, p50",
        "p95",
        "round trip, p50",
        "p95",
    )
    rows = []
    for entry in entries:
        results = entry.plain.results if entry.plain else {}
        measured = [entry.call_ms, results.get("infer_ms", {}), results.get("latency_ms", {})]
        cells = [_ms(ms.get(cut)) for ms in measured for cut in ("p50", "p95")]
        rows.append([entry.name, str(entry.evaluations_per_chunk), *cells])
    note = (
        "Milliseconds. Alone: 100 calls of the policy for one observation, one after the other, no simulator of ours running. "
        "The others: every request of the ordinary evaluation, simulators on the same machine; the round trip is what a robot "
        "waits for."
    )
    return Table("Latency", note, heads, rows)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def one_of_each_run(entries: Sequence[Entry]) -> list[Entry]:
    """The first of a run's policies, of every run."""
    return list({entry.run.workdir: entry for entry in reversed(entries)}.values())[::-1]
