"""Settings read from a section of the configuration."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from ml_collections import ConfigDict

from drifting_vla_jax.core.ranges import Choice, Many, Number, whole
from drifting_vla_jax.core.settings import SettingsError, read, require, rows


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Number(0.0, 1.0)]


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, whole(1, 10)]
    names: Annotated[tuple[str, ...], Many(Choice(("a", "b")))]
    inner: Inner

    def __post_init__(self):
        require(self.count > len(self.names), f"count is {self.count}; expected more than names has, {len(self.names)}")


GOOD = {"count": 3, "names": ["a"], "inner": {"rate": 0.5}}


@pytest.mark.parametrize("section", [GOOD, ConfigDict(GOOD), ConfigDict(GOOD).lock()])
def test_a_section_becomes_settings(section):
    assert read(Outer, section, "config.x") == Outer(3, ("a",), Inner(0.5))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"count": 0}, "config.x.count is 0; expected a whole number, at least 1 and at most 10"),
        ({"count": "3"}, "config.x.count is '3'"),
        ({"names": ("c",)}, "of 'c': expected a or b"),
        ({"inner": {"rate": 2.0}}, "config.x.inner.rate is 2.0"),
        ({"inner": {}}, "config.x.inner.rate is missing"),
        ({"inner": 3}, "config.x.inner is 3; expected a section with the keys rate"),
        ({"cuont": 3}, "config.x.cuont is no key; did you mean 'count'?"),
        ({"count": 1}, "count is 1; expected more than names has, 1"),
    ],
)
def test_what_cannot_be_meant_is_named(change, words):
    with pytest.raises(SettingsError) as error:
        read(Outer, GOOD | change, "config.x")
    assert words in str(error.value)


def test_every_problem_is_said_at_once():
    with pytest.raises(SettingsError) as error:
        read(Outer, {"names": ("c",), "inner": {"rate": -1.0}}, "config.x")
    assert [part.split(" ")[0] for part in str(error.value).split("; ") if part.startswith("config.")] == [
        "config.x.count", "config.x.names", "config.x.inner.rate",
    ]  # fmt: skip


def test_ranges_are_listed_by_key():
    assert list(rows(Outer)) == ["count", "names", "inner.rate"] and rows(Outer)["inner.rate"] == Number(0.0, 1.0)
