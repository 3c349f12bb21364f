"""What every suite is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict


@dataclass(frozen=True)
class Options:
    """The command line's, see ``__main__``.

    Attributes:
      config: of the network.
      rounds: of every contest; None: what suits it.
      data: a data set or demonstrations; None: none.
      batches: over which memory is watched.
      largest: points of the largest set of the loss; 0: none.
    """

    config: ConfigDict
    rounds: int | None = None
    data: str | None = None
    batches: int = 5000
    largest: int = 0

    @classmethod
    def of(cls, flags: Any, config: ConfigDict) -> Options:
        return cls(config, flags.rounds, flags.data, flags.batches, flags.largest)
