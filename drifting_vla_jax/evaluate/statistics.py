"""From episodes to rates: how often the policy succeeds, and what that many episodes can say about it.

The interval is Wilson's at 95% (z = 1.96): for k successes of n, with p = k / n,

    center = (p + z^2 / 2n) / (1 + z^2 / n)        half = z / (1 + z^2 / n) sqrt(p (1 - p) / n + z^2 / 4 n^2)

It stays inside [0, 1] and is honest at 0 of n and n of n, where the usual p +- 1.96 s.e. has no width at all.
Episodes with success null (the simulator crashed, the server was lost) are in ``outcomes`` and ``unscored``, not in n.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drifting_vla_jax.rollout import episode_log

_RATES = ("success_rate", "latched_rate")
Z95 = 1.959963984540054  # the normal distribution's 97.5% point


def wilson_interval(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The interval (low, high) of a success probability after ``successes`` of ``n`` independent episodes."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n} episodes; expected 0 <= successes <= n and n >= 1")
    p, spread = successes / n, z * z / n
    center = (p + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(p * (1 - p) / n + spread / (4 * n))
    low = 0.0 if successes == 0 else center - half  # exact there; rounding would say -1e-17
    high = 1.0 if successes == n else center + half
    return low, high


def summarize(episodes: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Episode lines -> results.json.

    Args:
      episodes: lines of episodes.jsonl, each episode once.
      settings: the folder's settings.json: the policy's identity and how it was asked.

    Returns:
      {"overall", "tasks": {name: ...}, "latency_ms", "infer_ms", "checkpoint_step", "config_hash", "objective",
      "evaluations_per_chunk", "settings"}. Rates and intervals are null where n is 0. ``overall`` pools all episodes;
      its ``mean_over_tasks`` weighs every task alike. latency_ms is the round trip a robot sees, over all requests;
      infer_ms the part spent in the network.
    """
    by_task: dict[str, list] = {}
    for episode in episodes:
        by_task.setdefault(episode["task"], []).append(episode)
    tasks = {}
    for name, group in by_task.items():
        tasks[name] = {**_rates(group), "outcomes": dict(sorted(Counter(e["outcome"] for e in group).items()))}
    rates = [task["success_rate"] for task in tasks.values() if task["n"]]
    overall = {**_rates(episodes), "mean_over_tasks": float(np.mean(rates)) if rates else None}
    return {
        "overall": overall,
        "tasks": tasks,
        "latency_ms": _percentiles(t for e in episodes for t in e["round_trip_ms"]),
        "infer_ms": _percentiles(t for e in episodes for t in e["infer_ms"]),
        **{name: settings[name] for name in episode_log.WHOSE},
        "settings": dict(settings),
    }


def by_group(results: Mapping[str, Any], task_groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Results as a simulator's literature reports them: the mean over the tasks of each group, and of groups.

    Args:
      task_groups: ``EnvInfo.task_groups``.

    Returns:
      {group: {"tasks": how many were evaluated, "success_rate", "latched_rate"}} of the groups that were, and where all of
      them were "average", in which each group counts the same.
    """
    groups = {}
    for name, members in task_groups.items():
        found = [results["tasks"][task] for task in members if results["tasks"].get(task, {"n": 0})["n"]]
        if found:
            rates = {key: float(np.mean([task[key] for task in found])) for key in _RATES}
            groups[name] = {"tasks": len(found), **rates}
    if groups and len(groups) == len(task_groups):
        average = {key: float(np.mean([group[key] for group in groups.values()])) for key in _RATES}
        groups["average"] = {"tasks": sum(group["tasks"] for group in groups.values()), **average}
    return groups


def _rates(episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scored = [e for e in episodes if e["success"] is not None]
    n, successes = len(scored), sum(e["success"] for e in scored)
    low, high = wilson_interval(successes, n) if n else (None, None)
    return {
        "n": n,
        "successes": successes,
        "success_rate": successes / n if n else None,
        "low": low,
        "high": high,
        "latched_rate": sum(e["latched"] for e in scored) / n if n else None,
        "mean_steps": sum(e["steps"] for e in scored) / n if n else None,
        "unscored": len(episodes) - n,
    }


def _percentiles(values: Iterable[float]) -> dict[str, float | None]:
    values = list(values)
    if not values:
        return {"p50": None, "p95": None}
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}
