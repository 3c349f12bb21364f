"""Grain: rows of a data set -> window -> decode -> augment -> batch -> device.

The order of the data, the augmentation of every sample and the paraphrase it gets are functions of the seed alone, so
an iterator's state is a few numbers and a restart goes on at the exact sample. Each process reads its own share.
"""

from __future__ import annotations

import cv2
import grain.experimental as grain_experimental
import grain.python as grain
import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from drifting_vla_jax.data.actions import ActionSpace, chunk_indices
from drifting_vla_jax.data.dataset import DataSet, Split
from drifting_vla_jax.data.text import tokenize
from drifting_vla_jax.types import Batch, Observation


class _Rows:
    """The rows of the wanted tasks, as a Grain random-access source of row numbers."""

    def __init__(self, rows: np.ndarray):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> int:
        return int(self._rows[index])


class _Sample(grain.RandomMapTransform):
    """Row number -> what is particular to one sample: its (augmented) images, its paraphrase, noise on its state."""

    def __init__(self, split: Split, config: ConfigDict, augment: bool):
        self._split, self._data, self._augment = split, config.data, augment

    def random_map(self, row: int, rng: np.random.Generator) -> dict:
        images, (first, count) = self._split.images(row), self._split.prompts[row]
        noise = np.zeros(self._split.state.shape[1], np.float32)
        if self._augment:
            images = np.stack([augment_view(view, self._data, rng) for view in images])
            noise = self._data.state_noise * rng.standard_normal(noise.shape, np.float32)
            first = first + rng.integers(count)
        return {"row": row, "images": images, "prompt": self._split.prompt_ids[first], "state_noise": noise}


def augment_view(image: np.ndarray, data: ConfigDict, rng: np.random.Generator) -> np.ndarray:
    """Random shift (edges repeated), contrast and brightness of one view, uint8 [size, size, 3]."""
    size = image.shape[0]
    if data.shift:
        padded = cv2.copyMakeBorder(image, *(data.shift,) * 4, cv2.BORDER_REPLICATE)
        y, x = rng.integers(0, 2 * data.shift + 1, 2)
        image = padded[y : y + size, x : x + size]
    gain = 1 + data.contrast * rng.uniform(-1, 1)
    offset = 255 * data.brightness * rng.uniform(-1, 1) + 127.5 * (1 - gain)
    levels = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(image, levels)


class _Collate(grain.MapTransform):
    """Samples -> ``Batch``: windows of the low-dimensional arrays, and each distinct instruction once.

    The table of instructions has a fixed size and is split over devices like the batch, so a process's own prompts
    start at its own offset of the global table.
    """

    def __init__(self, split: Split, actions: ActionSpace, token_table: np.ndarray, prompts: int, tasks: np.ndarray):
        self._split, self._actions, self._token_table, self._prompts = split, actions, token_table, prompts
        self._tasks = tasks
        self._offset = jax.process_index() * prompts

    def map(self, samples: dict[str, np.ndarray]) -> Batch:
        split, actions = self._split, self._actions
        rows, real = chunk_indices(samples["row"], split.last[samples["row"]], actions.horizon)
        state = split.state[samples["row"]]
        distinct, prompt = np.unique(samples["prompt"], return_inverse=True)
        return Batch(
            observation=Observation(
                images=samples["images"],
                state=actions.normalise_state(state) + samples["state_noise"],
                tokens=self._token_table[np.resize(distinct, self._prompts)],
                prompt=(prompt + self._offset).astype(np.int32),
            ),
            target=actions.normalise(split.actions[rows], state[:, :3]),
            mask=(real[..., None] & actions.active).astype(np.float32),
            task=self._tasks[split.task[samples["row"]]],
        )


def to_device(batch: Batch, sharding: NamedSharding) -> Batch:
    """A process's own part of a batch as one global array per leaf."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def batches(
    dataset: DataSet,
    split_name: str,
    actions: ActionSpace,
    config: ConfigDict,
    *,
    train: bool,
    sharding: NamedSharding | None = None,
) -> grain.DatasetIterator:
    """An iterator of ``Batch``; ``get_state`` is that of the last batch handed out, ``set_state`` goes back to it.

    With a sharding the batches are on the devices, ``config.data.prefetch`` of them ahead of time; without, they are
    numpy. Training shuffles globally, repeats for ever and augments; otherwise the order is shuffled once by the seed
    (so a few batches see every task), each row comes once, and nothing is augmented.

    Raises:
      ValueError: fewer rows than one batch.
    """
    split = dataset.split(split_name, config.data.cache_mb)
    wanted = [dataset.tasks.index(task) for task in config.env.tasks]
    tasks = np.full(len(dataset.tasks), -1, np.int32)  # the data set's number of a task -> the configuration's
    tasks[wanted] = np.arange(len(wanted))
    rows = np.flatnonzero(np.isin(split.task, wanted))[jax.process_index() :: jax.process_count()]
    size = config.data.batch_size // jax.process_count()
    if len(rows) < size:
        raise ValueError(
            f"split {split_name} of {config.data.path} has {len(rows)} steps for this process, fewer than "
            f"config.data.batch_size {size}; collect more episodes or make the batch smaller"
        )
    tokens = tokenize(dataset.instructions, config.data.max_tokens)
    data = grain.MapDataset.source(_Rows(rows)).seed(config.seed).shuffle()
    data = data.repeat() if train else data
    data = data.random_map(_Sample(split, config, augment=train))
    threads = grain.ReadOptions(num_threads=config.data.num_threads, prefetch_buffer_size=2 * size)
    data = data.to_iter_dataset(threads).batch(size, drop_remainder=True)
    devices = len(sharding.addressable_devices) if sharding is not None else 1
    prompts = -(-min(size, len(dataset.instructions)) // devices) * devices
    data = data.map(_Collate(split, actions, tokens, prompts, tasks))
    if sharding is not None:
        data = data.map(lambda batch: to_device(batch, sharding))
        data = grain_experimental.ThreadPrefetchIterDataset(data, prefetch_buffer_size=config.data.prefetch)
    return iter(data)
