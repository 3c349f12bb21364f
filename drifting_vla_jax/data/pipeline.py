"""Rows of a data set -> window -> decode -> batch -> device (-> augment, in the step).

The order of the data, the augmentation of every sample and the paraphrase it gets are functions of the seed and of the
sample's number in that order, so an iterator's state is one number and a restart goes on at the exact sample. All
processes know the whole order and each reads, of every batch, the rows that its devices hold: a batch is the same
whatever the number of processes.

A batch is made in one piece, by several threads (``sampling.py``); Grain runs ahead of the training and ends cleanly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import grain.experimental as grain_experimental
import grain.python as grain
import jax
import numpy as np
from jax.sharding import Sharding
from ml_collections import ConfigDict

from drifting_vla_jax.data import feature_cache
from drifting_vla_jax.data.dataset import DataSet, Split
from drifting_vla_jax.data.mixture import Mixture
from drifting_vla_jax.data.normalization import ActionNormalizer, ActionSpaces, chunk_indices
from drifting_vla_jax.data.sampling import OF_SETS, SampleLoader, ShuffledIndex, WeightedMixtureIndex
from drifting_vla_jax.models.encoders.registry import is_frozen
from drifting_vla_jax.models.tokenizers import make_tokenizer
from drifting_vla_jax.types import Batch, ModelObservation


class _Share:
    """The rows of every batch that one process reads, as a Grain random-access source of batches.

    Args:
      make: numbers of samples -> a batch of them.
      samples: how many there are.
      size: of a batch.
      rows: of a batch that are read here.
      start: the first sample of the first batch.
    """

    def __init__(self, make: Callable[[np.ndarray], Batch], samples: int, size: int, rows: np.ndarray, start: int):
        self._make, self._samples, self._size, self._rows, self._start = make, samples, size, rows, start

    def __len__(self) -> int:
        return (self._samples - self._start) // self._size

    def __getitem__(self, index: int) -> Batch:
        return self._make(self._start + index * self._size + self._rows)


class _Collate:
    """Samples -> ``Batch``: windows of the low-dimensional arrays, and each distinct instruction once.

    The table of a batch's instructions has a fixed size and is split over devices like the batch: ``slots`` are the
    rows of it that this process fills. Where the text encoder is frozen there is no such table (``token_table`` is
    None): prompts are the data set's own numbers of its instructions.
    """

    def __init__(
        self,
        split: Split,
        actions: ActionNormalizer | ActionSpaces,
        ahead: np.ndarray,
        token_table: np.ndarray | None,
        slots: np.ndarray,
        tasks: np.ndarray,
    ):
        self._split, self._actions, self._ahead = split, actions, ahead
        self._present = actions.layout.present_dim
        self._token_table, self._slots, self._tasks = token_table, slots, tasks

    def __call__(self, samples: dict[str, np.ndarray]) -> Batch:
        split = self._split
        actions = self._actions.of(None if split.source is None else split.source[samples["row"]])
        rows, real = chunk_indices(samples["row"], self._ahead, split.last, actions.horizon)
        state = split.state[samples["row"]]
        prompt, tokens = samples["prompt"], None
        if self._token_table is not None:
            distinct, prompt = np.unique(prompt, return_inverse=True)
            prompt, tokens = self._slots[prompt], self._token_table[np.resize(distinct, len(self._slots))]
        return Batch(
            observation=ModelObservation(
                images=samples.get("images"),
                state=actions.normalise_state(state) + samples["state_noise"],
                prompt=prompt.astype(np.int32),
                tokens=tokens,
                features=samples.get("features"),
                jitter=samples.get("jitter"),
                seen=samples.get("seen"),
            ),
            target=actions.normalise(split.actions[rows], state[:, : self._present]),
            mask=(real[..., None] & actions.active).astype(np.float32),
            task=self._tasks[split.task[samples["row"]]],
        )


def to_device(batch: Batch, sharding: Sharding) -> Batch:
    """A process's own part of a batch as one global array per leaf."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def own_rows(sharding: Sharding | None, size: int) -> np.ndarray:
    """Which of ``size`` rows this process's devices hold, in the order of ``to_device``; all of them, if none hold any."""
    if sharding is None:
        return np.arange(size)
    held = sharding.addressable_devices_indices_map((size,)).values()
    spans = {rows.indices(size)[:2] for (rows,) in held}
    return np.concatenate([np.arange(*span) for span in sorted(spans)])


class Batches:
    """An iterator of ``Batch`` that says how far it has come, and goes on where it is told.

    Its state counts the samples of all processes, so it means the same to any number of them.
    """

    def __init__(self, read: Callable[[int], grain.DatasetIterator], size: int):
        """``read(start)`` reads from that sample on; each batch has ``size`` samples over all processes."""
        self._read, self._size = read, size
        self._samples, self._batches = 0, read(0)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self._samples += self._size
        return batch

    def get_state(self) -> dict[str, int]:
        """That of the last batch handed out, however many are being made ready."""
        return {"samples": self._samples}

    def set_state(self, state: dict[str, int]) -> None:
        """Raises ValueError if the state is not of this class."""
        if set(state) != {"samples"}:
            raise ValueError(f"the position in the data is {state}, not a number of samples: it is of an older version")
        self._batches.close()
        self._samples = state["samples"]
        self._batches = self._read(self._samples)


def batches(
    dataset: DataSet | Mixture,
    split_name: str,
    actions: ActionNormalizer | ActionSpaces,
    config: ConfigDict,
    *,
    train: bool,
    sharding: Sharding | None = None,
    encoder_hash: str | None = None,
    only: np.ndarray | None = None,
) -> Batches:
    """The batches of a split, of which each process reads the rows that its devices hold under ``sharding``.

    Training shuffles anew in every epoch, repeats for ever and augments, and with a sharding its batches are on the
    devices, ``config.data.prefetch`` of them ahead of time. Otherwise the order is shuffled once by the seed (so a few
    batches see every task), each row comes once (of fewer than a batch again, until it is full), nothing is augmented, and
    batches are numpy. Without a sharding a
    batch is whole and numpy.

    Of a mixture training shows each set as often as its weight says, through epochs of its own; ``actions`` are then those
    of all its sets, or of the one that is shown (``Mixture.alone``).

    ``encoder_hash`` says whose stored features are read, if ``config.data.features``. ``only``: these rows of the split in
    this order, instead of all of the wanted tasks.

    Raises:
      ValueError: fewer rows to train on than one batch, or none of a set of the mixture.
      FileNotFoundError: features of this encoder were not stored.
    """
    split = dataset.split(split_name, 0 if config.data.features else config.data.cache_mb)
    wanted = [dataset.tasks.index(task) for task in config.env.tasks]
    tasks = np.full(len(dataset.tasks), -1, np.int32)  # the data set's number of a task -> the configuration's
    tasks[wanted] = np.arange(len(wanted))
    rows = np.flatnonzero(np.isin(split.task, wanted)) if only is None else only
    size = config.data.batch_size
    if len(rows) < (size if train else 1):
        raise ValueError(
            f"split {split_name} of {dataset.path} has {len(rows)} steps of the wanted tasks, fewer than "
            f"config.data.batch_size {size}; collect more episodes or make the batch smaller"
        )
    if len(rows) < size:
        rows = np.resize(rows, size)  # one batch, of which some rows come twice
    tokens = None if is_frozen(config, "text") else make_tokenizer(config)(dataset.instructions)
    features = None
    if config.data.features:
        features = feature_cache.open_features(dataset, split_name, config, encoder_hash)
    order = ShuffledIndex(rows, config.seed if only is None else None)
    shown = _mixed(dataset, split, rows, config.seed) if train and isinstance(dataset, Mixture) else order
    sample = SampleLoader(split, shown, config, train, features)
    own = own_rows(sharding, size)
    slots = _prompt_slots(sharding, own, size, len(dataset.instructions))
    collate = _Collate(split, actions, split.ahead(config.action), tokens, slots, tasks)
    samples = sys.maxsize if train else len(order)
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)  # one fills its batch while the other ends one

    def read(start: int) -> grain.DatasetIterator:
        share = _Share(lambda numbers: collate(sample(numbers)), samples, size, own, start)
        share = grain.MapDataset.source(share).to_iter_dataset(ahead)
        if train and sharding is not None:
            share = share.map(lambda batch: to_device(batch, sharding))
            share = grain_experimental.ThreadPrefetchIterDataset(share, prefetch_buffer_size=config.data.prefetch)
        return iter(share)

    return Batches(read, size)


def _mixed(mixture: Mixture, split: Split, rows: np.ndarray, seed: int) -> WeightedMixtureIndex:
    """These rows in the shares of their sets."""
    own = [rows[split.source[rows] == k] for k in range(len(mixture.sets))]
    for each, found in zip(mixture.sets, own):
        if not len(found):
            raise ValueError(
                f"the training split of {each.path} has no step of config.env.tasks; take it out of the mixture"
            )
    orders = [ShuffledIndex(found, seed, OF_SETS + k) for k, found in enumerate(own)]
    return WeightedMixtureIndex(orders, mixture.weights, seed)


def _prompt_slots(sharding: Sharding | None, own: np.ndarray, size: int, instructions: int) -> np.ndarray:
    """The rows of a batch's table of instructions that this process fills: enough for its ``own`` rows of the batch."""
    share = size if sharding is None else sharding.shard_shape((size,))[0]  # of one device
    each = -(-min(len(own), instructions) // (len(own) // share))
    return own_rows(sharding, each * (size // share))
