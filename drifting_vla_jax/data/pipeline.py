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

from drifting_vla_jax.data import stored_features
from drifting_vla_jax.data.actions import ActionSpace, chunk_indices
from drifting_vla_jax.data.dataset import DataSet, Split
from drifting_vla_jax.data.text import make_tokenizer
from drifting_vla_jax.types import Batch, Observation, is_fixed


class _Rows:
    """The rows of the wanted tasks, as a Grain random-access source of row numbers."""

    def __init__(self, rows: np.ndarray):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> int:
        return int(self._rows[index])


class _Sample(grain.RandomMapTransform):
    """Row number -> what is particular to one sample: its (augmented) images, its paraphrase, noise on its state.

    With stored ``features`` these take the images' place.
    """

    def __init__(self, split: Split, config: ConfigDict, augment: bool, features: stored_features.Features | None):
        self._split, self._data, self._augment, self._features = split, config.data, augment, features
        self._history, self._stride = config.model.history, config.model.history_stride

    def random_map(self, row: int, rng: np.random.Generator) -> dict:
        first, count = self._split.prompts[row]
        noise = np.zeros(self._split.state.shape[1], np.float32)
        seen = self._see(self._split.rows_before(row, self._history, self._stride), rng)
        if self._augment:
            noise = self._data.state_noise * rng.standard_normal(noise.shape, np.float32)
            first = first + rng.integers(count)
        return {"row": row, **seen, "prompt": self._split.prompt_ids[first], "state_noise": noise}

    def _see(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """All views of some time steps, one after the other; a view is augmented the same way in each of them."""
        if self._features is not None:
            return {"features": np.concatenate([self._features[row] for row in rows])}
        steps = np.stack([self._split.images(row) for row in rows])  # [k v size size 3]
        if self._augment:
            steps = np.stack([augment_view(steps[:, view], self._data, rng) for view in range(steps.shape[1])], axis=1)
        return {"images": steps.reshape(-1, *steps.shape[2:])}


def augment_view(images: np.ndarray, data: ConfigDict, rng: np.random.Generator) -> np.ndarray:
    """Random shift (edges repeated), contrast and brightness of one view, the same for k images [k, size, size, 3]."""
    size = images.shape[1]
    if data.shift:
        y, x = rng.integers(0, 2 * data.shift + 1, 2)
        padded = [cv2.copyMakeBorder(image, *(data.shift,) * 4, cv2.BORDER_REPLICATE) for image in images]
        images = np.stack([image[y : y + size, x : x + size] for image in padded])
    gain = 1 + data.contrast * rng.uniform(-1, 1)
    offset = 255 * data.brightness * rng.uniform(-1, 1) + 127.5 * (1 - gain)
    levels = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(images.reshape(-1, size, 3), levels).reshape(images.shape)


class _Collate(grain.MapTransform):
    """Samples -> ``Batch``: windows of the low-dimensional arrays, and each distinct instruction once.

    The table of a batch's instructions has a fixed size and is split over devices like the batch, so a process's own
    prompts start at its own offset of the global table. Where the text encoder is frozen there is no such table
    (``token_table`` is None): prompts are the data set's own numbers of its instructions.
    """

    def __init__(
        self, split: Split, actions: ActionSpace, token_table: np.ndarray | None, prompts: int, tasks: np.ndarray
    ):
        self._split, self._actions, self._token_table, self._prompts = split, actions, token_table, prompts
        self._tasks = tasks
        self._offset = jax.process_index() * prompts

    def map(self, samples: dict[str, np.ndarray]) -> Batch:
        split, actions = self._split, self._actions
        rows, real = chunk_indices(samples["row"], split.last[samples["row"]], actions.horizon)
        state = split.state[samples["row"]]
        prompt, tokens = samples["prompt"], None
        if self._token_table is not None:
            distinct, prompt = np.unique(prompt, return_inverse=True)
            prompt, tokens = prompt + self._offset, self._token_table[np.resize(distinct, self._prompts)]
        return Batch(
            observation=Observation(
                images=samples.get("images"),
                state=actions.normalise_state(state) + samples["state_noise"],
                prompt=prompt.astype(np.int32),
                tokens=tokens,
                features=samples.get("features"),
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
    encoder_hash: str | None = None,
) -> grain.DatasetIterator:
    """An iterator of ``Batch``; ``get_state`` is that of the last batch handed out, ``set_state`` goes back to it.

    With a sharding the batches are on the devices, ``config.data.prefetch`` of them ahead of time; without, they are
    numpy. Training shuffles globally, repeats for ever and augments; otherwise the order is shuffled once by the seed
    (so a few batches see every task), each row comes once, and nothing is augmented.

    ``encoder_hash`` says whose stored features are read, if ``config.data.features``.

    Raises:
      ValueError: fewer rows than one batch.
      FileNotFoundError: features of this encoder were not stored.
    """
    split = dataset.split(split_name, 0 if config.data.features else config.data.cache_mb)
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
    tokens = None if is_fixed(config, "text") else make_tokenizer(config)(dataset.instructions)
    data = grain.MapDataset.source(_Rows(rows)).seed(config.seed).shuffle()
    data = data.repeat() if train else data
    features = None
    if config.data.features:
        features = stored_features.open_features(dataset, split_name, config, encoder_hash)
    data = data.random_map(_Sample(split, config, train, features))
    threads = grain.ReadOptions(num_threads=config.data.num_threads, prefetch_buffer_size=2 * size)
    data = data.to_iter_dataset(threads).batch(size, drop_remainder=True)
    devices = len(sharding.addressable_devices) if sharding is not None else 1
    prompts = -(-min(size, len(dataset.instructions)) // devices) * devices
    data = data.map(_Collate(split, actions, tokens, prompts, tasks))
    if sharding is not None:
        data = data.map(lambda batch: to_device(batch, sharding))
        data = grain_experimental.ThreadPrefetchIterDataset(data, prefetch_buffer_size=config.data.prefetch)
    return iter(data)
