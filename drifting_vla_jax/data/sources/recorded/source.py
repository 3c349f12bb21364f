"""Data sets that others recorded, of any format that a mapping can describe."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drifting_vla_jax.data.sources.base import About, Source, check_undivided
from drifting_vla_jax.data.sources.recorded import convert
from drifting_vla_jax.data.sources.recorded.base import Format, RecordedSettings


class RecordedSource(Source[RecordedSettings]):
    """A format: how its mappings are read, and how its files are opened."""

    Settings = RecordedSettings

    @abc.abstractmethod
    def read_mapping(self, name: str) -> dict:
        """The mapping of this preset or file; raises ValueError."""

    @abc.abstractmethod
    def open_files(self, settings: RecordedSettings) -> Format:
        """The data set; raises ValueError."""

    def settings(self, values: Mapping[str, Any]) -> RecordedSettings:
        given = Path(values["input"])
        read = {"input": str(given.resolve()) if given.exists() else values["input"]}
        return RecordedSettings(**values | read | {"mapping": self.read_mapping(values["mapping"])})

    def collect(self, settings: RecordedSettings, out: Path) -> tuple[dict[str, list[Path]], About]:
        files = self.open_files(settings)
        if "" not in files.splits:
            check_undivided(settings.input, settings)
        converted = convert.convert(settings, files, out)
        return converted.splits, About(
            source=self.name,
            cameras=converted.cameras,
            image_size=converted.image_size,
            state_names=converted.state_names,
            control_hz=converted.control_hz,
            details=convert.details(settings, converted),
            layout=converted.layout,
        )

    def content(self, settings: RecordedSettings, details: Mapping[str, Any]) -> dict:
        files = self.open_files(settings)
        if files.revision and files.revision == details["content"]["revision"]:
            return details["content"]
        return convert.content(settings, files)

    def lines(self, details: Mapping[str, Any]) -> list[str]:
        return convert.report_lines(details)
