"""Samples by number: which row of a split each shows, and what is particular to it, many threads filling one array.

Sample n is a function of the seed and of n alone; what chance it needs has streams of its own, below. Images are decoded
straight into the batch's own array; Python's part of the work, which no two threads do at once, is little beside the
decoder's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.data import feature_cache
from drifting_vla_jax.data.augment import jitter_of
from drifting_vla_jax.data.dataset import Split
from drifting_vla_jax.types import augments

PART = 8  # samples that a thread makes at a time
SHUFFLE, AUGMENT, BLOCKS, OF_SETS = 0, 1, 2, 3  # streams of random numbers under a seed; the last is the first of many


class ShuffledIndex:
    """Which row is shown as sample 0, 1, 2, ...: every row once per epoch, each epoch shuffled by itself.

    Without a seed rows come as they are given. Orders with different streams are shuffled differently.
    """

    def __init__(self, rows: np.ndarray, seed: int | None, stream: int = SHUFFLE):
        self._rows, self._seed, self._stream = rows, seed, stream
        self._epoch = functools.lru_cache(2)(self._shuffled)  # a batch may reach into the next

    def __len__(self) -> int:
        return len(self._rows)

    def _shuffled(self, epoch: int) -> np.ndarray:
        if self._seed is None:
            return self._rows
        return np.random.default_rng((self._seed, self._stream, epoch)).permutation(self._rows)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of these samples."""
        return np.array([self._epoch(number // len(self))[number % len(self)] for number in numbers.tolist()])


class WeightedMixtureIndex:
    """Which row of several sets is shown as sample 0, 1, 2, ...: of each set as many as its weight asks for.

    Samples come in blocks of a hundred, more if the least weight is below a hundredth. After t blocks each set has been
    shown as often as its share of them, but for less than one sample; within a block the sets are shuffled, and each set
    has an ``ShuffledIndex`` of its own, with its own epochs. So of any N samples in a row a set has its share of N but for half a
    block at worst, and sample n follows from n alone.
    """

    def __init__(self, orders: Sequence[ShuffledIndex], weights: Sequence[float], seed: int):
        parts = [Fraction(weight / sum(weights)).limit_denominator(10**6) for weight in weights]
        self._orders, self._seed, whole = orders, seed, sum(parts)
        self._ends = [sum(parts[: k + 1]) / whole for k in range(len(parts))]
        self._size = max(100, math.ceil(whole / min(parts)))
        self._block = functools.lru_cache(256)(self._made)  # a batch may reach over many

    def _shown(self, blocks: int) -> np.ndarray:
        """How many samples of each set the first so many blocks hold."""
        return np.diff([math.floor(end * blocks * self._size) for end in self._ends], prepend=0)

    def _made(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each sample of a block: its set, and how many samples of this set have come before."""
        before = self._shown(block)
        which = np.repeat(np.arange(len(before)), self._shown(block + 1) - before)
        which = np.random.default_rng((self._seed, BLOCKS, block)).permutation(which)
        nth = np.empty(self._size, np.int64)
        for k, start in enumerate(before):
            own = which == k
            nth[own] = start + np.arange(own.sum())
        return which, nth

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of these samples."""
        places = [(self._block(n // self._size), n % self._size) for n in numbers.tolist()]
        which, nth = (np.array([block[part][at] for block, at in places]) for part in (0, 1))
        rows = np.empty(len(numbers), np.int64)
        for k, order in enumerate(self._orders):
            if (which == k).any():
                rows[which == k] = order(nth[which == k])
        return rows


class SampleLoader:
    """Numbers of samples -> what is particular to each: its images and how they are changed, its paraphrase,
    noise on its state.

    With stored ``features`` these take the images' place.
    """

    def __init__(
        self,
        split: Split,
        order: ShuffledIndex | WeightedMixtureIndex,
        config: ConfigDict,
        augment: bool,
        features: feature_cache.Features | None,
    ):
        self._split, self._order, self._augment, self._features = split, order, augment, features
        self._seed, self._jitter = config.seed, augment and augments(config)
        self._data = config.data
        self._history, self._stride = config.model.history, config.model.history_stride
        self._state_noise, threads = config.data.state_noise, config.data.num_threads
        self._pool = ThreadPoolExecutor(threads) if threads else None

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        rows, split, count = self._order(numbers), self._split, len(numbers)
        samples = {"row": rows, "state_noise": np.zeros((count, split.state.shape[1]), np.float32)}
        times, cameras = 1 + self._history, len(split.cameras)
        if self._features is None:
            samples["images"] = np.empty((count, times * cameras, *split.picture), np.uint8)
        else:
            one = self._features[0]
            samples["features"] = np.empty((count, times * len(one), *one.shape[1:]), one.dtype)
        unit = np.zeros((count, 1 + 4 * cameras))  # random numbers from 0 to 1: paraphrase, each view's jitter

        def make(part: slice) -> None:
            for i in range(part.start, min(part.stop, count)):
                self._look(samples, i, int(rows[i]))
                if self._augment:
                    rng = np.random.default_rng((self._seed, AUGMENT, int(numbers[i])))
                    rng.random(out=unit[i])
                    rng.standard_normal(out=samples["state_noise"][i], dtype=np.float32)

        parts = [slice(start, start + PART) for start in range(0, count, PART)]
        list(self._pool.map(make, parts) if self._pool else map(make, parts))
        samples["state_noise"] *= np.float32(self._data.state_noise)
        first, paraphrases = split.prompts[rows].T
        samples["prompt"] = split.prompt_ids[first + (unit[:, 0] * paraphrases).astype(int)]
        if self._jitter:  # a view is changed the same way at every time
            jitter = jitter_of(self._data, unit[:, 1:].reshape(count, cameras, 4))
            samples["jitter"] = np.tile(jitter, (1, times, 1))
        if split.seen is not None:
            samples["seen"] = np.tile(split.seen[rows], (1, times))
        return samples

    def _look(self, samples: dict[str, np.ndarray], i: int, row: int) -> None:
        """Writes what there is to see in a row to its place: all views of the oldest time step, then of the next."""
        split, views = self._split, len(self._split.cameras)
        seen = split.rows_before(row, self._history, self._stride) if self._history else [row]
        if self._features is not None:
            samples["features"][i] = np.concatenate([self._features[at] for at in seen])
            return
        for time, at in enumerate(seen):
            split.read(at, samples["images"][i, time * views : (time + 1) * views])
