"""A simulator's own scripted experts as a source; its name is the simulator's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drifting_vla_jax.data.sources import scripted as demonstrations
from drifting_vla_jax.data.sources.base import About, Source
from drifting_vla_jax.data.sources.scripted import CollectSettings
from drifting_vla_jax.envs.registry import info


class Scripted(Source[CollectSettings]):
    """Episodes of scripted experts, each replayed open loop before it counts."""

    Settings = CollectSettings

    def defaults(self) -> Mapping[str, Any]:
        return info(self.name).build or {}

    def settings(self, values: Mapping[str, Any]) -> CollectSettings:
        tasks = info(self.name).tasks if values["tasks"] == ("all",) else values["tasks"]
        return CollectSettings(**values | {"tasks": tasks}, simulator=self.name)

    def collect(self, settings: CollectSettings, out: Path) -> tuple[dict[str, list[Path]], About]:
        report = demonstrations.collect(settings, out)
        splits: dict[str, list[Path]] = {"train": [], "val": []}
        for task in settings.tasks:
            for index in range(settings.episodes):
                splits[settings.split(index)].append(demonstrations.episode_path(out, task, index))
        simulator = info(settings.simulator)
        return splits, About(
            source=self.name,
            cameras=settings.cameras,
            image_size=settings.image_size,
            state_names=simulator.state_names,
            control_hz=simulator.simulator_hz / settings.frame_skip,
            details={"tasks": [asdict(task) for task in report.tasks], "recorded": settings.recorded()},
        )

    def lines(self, details: Mapping[str, Any]) -> list[str]:
        return [
            f"{t['task']:28s} {t['kept']:4d} kept {t['failed']:4d} failed and dropped, {t['replayed']:4d} replayed, "
            f"{t['mean_length']:6.1f} steps"
            for t in details["tasks"]
        ]
