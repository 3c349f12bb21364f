"""Samples by number: which row of a split each shows, and what is particular to it, many threads filling one array.

Sample n is a function of the seed and of n alone. Images are decoded straight into the batch's own array; Python's part
of the work, which no two threads do at once, is little beside the decoder's.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
from ml_collections import ConfigDict

from drifting_vla_jax.data import stored_features
from drifting_vla_jax.data.augment import augment_view
from drifting_vla_jax.data.dataset import Split

PART = 8  # samples that a thread makes at a time


class Order:
    """Which row is shown as sample 0, 1, 2, ...: every row once per epoch, each epoch shuffled by itself."""

    def __init__(self, rows: np.ndarray, seed: int):
        self._rows, self._seed = rows, seed
        self._epoch = functools.lru_cache(2)(self._shuffled)  # a batch may reach into the next

    def __len__(self) -> int:
        return len(self._rows)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 0, epoch)).permutation(self._rows)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of these samples."""
        return np.array([self._epoch(number // len(self))[number % len(self)] for number in numbers.tolist()])


class Sampler:
    """Numbers of samples -> what is particular to each: its (augmented) images, its paraphrase, noise on its state.

    With stored ``features`` these take the images' place.
    """

    def __init__(
        self,
        split: Split,
        order: Order,
        config: ConfigDict,
        augment: bool,
        features: stored_features.Features | None,
    ):
        self._split, self._order, self._augment, self._features = split, order, augment, features
        self._seed = config.seed
        # As plain numbers: reading a configuration takes longer than moving a picture.
        self._data = SimpleNamespace(**{name: config.data[name] for name in ("shift", "contrast", "brightness")})
        self._history, self._stride = config.model.history, config.model.history_stride
        self._state_noise, threads = config.data.state_noise, config.data.num_threads
        self._pool = ThreadPoolExecutor(threads) if threads else None

    def __call__(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        rows, split = self._order(numbers), self._split
        first, count = split.prompts[rows].T
        samples = {"row": rows, "state_noise": np.zeros((len(rows), split.state.shape[1]), np.float32), "said": first}
        if self._features is None:
            views = (1 + self._history) * len(split.cameras)
            samples["images"] = np.empty((len(rows), views, *split.picture), np.uint8)
        else:
            samples["features"] = np.empty((len(rows), *self._features[0].shape), self._features[0].dtype)

        def make(part: slice) -> None:
            for i in range(part.start, min(part.stop, len(rows))):
                self._fill(samples, i, int(numbers[i]), int(rows[i]), int(count[i]))

        parts = [slice(start, start + PART) for start in range(0, len(rows), PART)]
        list(self._pool.map(make, parts) if self._pool else map(make, parts))
        return samples | {"prompt": split.prompt_ids[samples.pop("said")]}

    def _fill(self, samples: dict[str, np.ndarray], i: int, number: int, row: int, paraphrases: int) -> None:
        """Writes one sample to its place."""
        rng = np.random.default_rng((self._seed, 1, number)) if self._augment else None
        seen = self._split.rows_before(row, self._history, self._stride) if self._history else [row]
        if self._features is not None:
            samples["features"][i] = np.concatenate([self._features[at] for at in seen])
        else:
            self._see(samples["images"][i], seen, rng)
        if rng is not None:
            samples["state_noise"][i] = self._state_noise * rng.standard_normal(
                samples["state_noise"].shape[1], np.float32
            )
            samples["said"][i] += rng.integers(paraphrases)

    def _see(self, out: np.ndarray, rows: Sequence[int], rng: np.random.Generator | None) -> None:
        """All views of some time steps, one after the other; a view is augmented the same way in each of them."""
        steps = [self._split.images(row) for row in rows]
        views = len(steps[0])
        for view in range(views):
            pictures = [step[view] for step in steps]
            if rng is not None:
                pictures = augment_view(pictures, self._data, rng)
            for time, picture in enumerate(pictures):
                out[time * views + view] = picture
