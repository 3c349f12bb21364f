"""Batches: a function of the seed alone, exact after a restart, and each row what the data set says."""

import itertools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.augment import augmented, jitter_of, jittered
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.state import fake_batch
from tests.small import PARAPHRASES

TRAIN_BATCHES, VAL_BATCHES = 9, 3  # 72 and 24 steps in batches of 8


@pytest.fixture
def make(config):
    """make(split) -> an iterator of batches; options as in ``pipeline.batches``."""
    dataset = DataSet(config.data.path, config.env.cameras)
    actions = dataset.action_space(config)

    def make(split="train", on=None, **options):
        mesh = None if on is None else sharding.batch_sharding(sharding.make_mesh(config, on))
        return pipeline.batches(dataset, split, actions, config, train=split == "train", sharding=mesh, **options)

    make.dataset, make.actions = dataset, actions
    return make


def take(iterator, n):
    return list(itertools.islice(iterator, n))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def rows_of(make, batch, split="train"):
    """Which rows of the split a batch shows, found by their state."""
    known = make.actions.normalise_state(make.dataset.split(split).state)
    distance = np.abs(np.asarray(batch.observation.state)[:, None] - known).max(-1)
    assert (distance.min(1) < 1e-6).all()
    return distance.argmin(1)


def text_of(batch):
    """What each observation was asked to do."""
    o = batch.observation
    return [bytes(int(t) - 1 for t in row if t).decode() for row in np.asarray(o.tokens)[np.asarray(o.prompt)]]


def test_batches_are_what_the_network_is_told_to_expect(make, config):
    expected = fake_batch(config, 8, prompts=8)
    batch = next(make())
    assert jax.tree.structure(batch) == jax.tree.structure(expected)
    jax.tree.map(lambda x, y: np.testing.assert_equal((x.shape, x.dtype), (y.shape, y.dtype)), batch, expected)


def test_the_seed_decides_everything(make, config):
    first, again = take(make(), 2), take(make(), 2)
    assert_same(first, again)
    config.seed = 1
    other = next(make())
    assert not np.array_equal(other.observation.state, first[0].observation.state)


def test_threads_and_cache_change_nothing(make, config):
    config.data.cache_mb = 0
    expected = take(make(), 3)
    config.data.num_threads, config.data.cache_mb = 3, 16
    assert_same(take(make(), 3), expected)


@pytest.mark.parametrize("on", [None, 1, 8], ids=["numpy", "1 device", "8 devices"])
def test_a_restored_iterator_goes_on_with_the_next_batch(make, on):
    """The state is that of the batch handed out, however many are prefetched, and it survives JSON."""
    devices = None if on is None else jax.devices()[:on]
    running = make(on=devices)
    take(running, 4)
    state = json.loads(json.dumps(running.get_state()))
    expected = take(running, TRAIN_BATCHES)  # into the next epoch
    restored = make(on=devices)
    restored.set_state(state)
    assert_same(take(restored, TRAIN_BATCHES), expected)


def test_an_epoch_visits_every_row_once_and_the_next_in_another_order(make, config):
    config.data.state_noise = 0.0
    order = [rows_of(make, batch) for batch in take(make(), 2 * TRAIN_BATCHES)]
    first, second = np.concatenate(order[:TRAIN_BATCHES]), np.concatenate(order[TRAIN_BATCHES:])
    assert sorted(first) == sorted(second) == list(range(72))
    assert not np.array_equal(first, second) and not np.array_equal(first, np.arange(72))


def test_validation_ends_and_shows_each_row_once_as_it_is(make, config):
    """No augmentation, the plainest instruction, a shuffled order."""
    batches = list(make("val"))
    assert len(batches) == VAL_BATCHES
    rows = np.concatenate([rows_of(make, batch, "val") for batch in batches])
    assert sorted(rows) == list(range(24)) and rows.tolist() != list(range(24))
    split = make.dataset.split("val")
    images = np.concatenate([batch.observation.images for batch in batches])
    np.testing.assert_array_equal(images, [split.images(int(row)) for row in rows])
    asked = [text for batch in batches for text in text_of(batch)]
    assert asked == [f"go to the {'red' if row < 12 else 'blue'} ball" for row in rows]


def test_target_is_the_normalised_chunk_of_the_row(make, config):
    config.data.state_noise = 0.0
    batch, split = next(make()), make.dataset.split("train")
    for i, row in enumerate(rows_of(make, batch)):
        ahead = min(4, split.last[row] - row + 1)
        back = make.actions.denormalise(batch.target[i], split.state[row, :3])
        np.testing.assert_allclose(back[:ahead], split.actions[row : row + ahead], atol=1e-5)
        active = make.actions.active
        np.testing.assert_array_equal(batch.mask[i], (np.arange(4) < ahead)[:, None] & active)
    assert not make.actions.active[:, 3:9].any()  # the wrist of the small episodes never turns


def test_prompts_belong_to_the_row_and_every_paraphrase_is_used(make, config):
    config.data.state_noise = 0.0
    split, asked = make.dataset.split("train"), set()
    for batch in take(make(), TRAIN_BATCHES):
        for row, text in zip(rows_of(make, batch), text_of(batch)):
            colour = make.dataset.tasks[split.task[row]].split("-")[1]
            assert text in [words.format(colour) for words in PARAPHRASES]
            asked.add(text)
    assert asked == {words.format(colour) for words in PARAPHRASES for colour in ("red", "blue")}


def test_only_the_wanted_tasks_are_shown(make, config):
    config.env.tasks = ("reach-blue",)
    config.data.state_noise = 0.0
    rows = np.concatenate([rows_of(make, batch) for batch in take(make(), 9)])
    assert {make.dataset.split("train").task[row] for row in rows} == {make.dataset.tasks.index("reach-blue")}


def test_each_view_is_augmented_by_itself_and_anew_each_epoch(config):
    """The same camera twice: alike in validation, different in training."""
    config.env.cameras, config.data.state_noise = ("front", "front"), 0.0
    dataset = DataSet(config.data.path, config.env.cameras)
    space = dataset.action_space(config)
    val = next(pipeline.batches(dataset, "val", space, config, train=False)).observation
    assert val.jitter is None
    val = val.images
    np.testing.assert_array_equal(val[:, 0], val[:, 1])
    batches = take(pipeline.batches(dataset, "train", space, config, train=True), 2 * TRAIN_BATCHES)
    images = np.concatenate([augmented(b.observation).images for b in batches])
    assert (images[:, 0] != images[:, 1]).any(axis=(1, 2, 3)).mean() > 0.9
    state = np.concatenate([b.observation.state for b in batches])
    first, second = np.lexsort(state[:72].T), np.lexsort(state[72:].T)  # the same rows in both epochs
    assert (images[:72][first] != images[72:][second]).any(axis=(1, 2, 3, 4)).mean() > 0.9


def change(config, image, seed=0, **changes):
    with config.unlocked():
        config.data.update({"shift": 0, "brightness": 0.0, "contrast": 0.0} | changes)
    jitter = jitter_of(config.data, np.random.default_rng(seed).random((1, 1, 4)))
    return np.asarray(jittered(image[None, None], jitter))[0, 0]


def test_shift_moves_the_picture_and_repeats_its_edge(config):
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    y, x = np.mgrid[:6, :6]
    moves = {(dy, dx): image[np.clip(y + dy, 0, 5), np.clip(x + dx, 0, 5)] for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    seen = set()
    for seed in range(200):
        out = change(config, image, seed, shift=1)
        seen |= {move for move, expected in moves.items() if np.array_equal(out, expected)}
    assert seen == set(moves)


def test_brightness_adds_and_contrast_stretches_about_the_middle(config):
    image = np.full((4, 4, 3), 100, np.uint8)
    image[0] = 150
    np.testing.assert_array_equal(change(config, image), image)
    brighter = [change(config, image, seed, brightness=0.1).astype(int) for seed in range(50)]
    added = [out[1, 0, 0] - 100 for out in brighter]
    assert min(added) < -15 and max(added) > 15 and max(map(abs, added)) <= 26  # 0.1 * 255, rounded down
    assert all(abs((out[0] - out[1]).mean() - 50) <= 1 for out in brighter)
    gaps = [int(out[0, 0, 0]) - out[1, 0, 0] for out in (change(config, image, s, contrast=0.2) for s in range(50))]
    assert min(gaps) < 43 and max(gaps) > 57 and min(gaps) >= 39 and max(gaps) <= 61  # 50 * (1 -+ 0.2)


def test_eight_devices_see_what_one_process_reads(make):
    plain, split = next(make()), next(make(on=jax.devices()))
    assert {s.data.shape[0] for s in split.observation.images.addressable_shards} == {1}
    for name in ("images", "state"):
        np.testing.assert_array_equal(getattr(split.observation, name), getattr(plain.observation, name))
    np.testing.assert_array_equal(split.target, plain.target)
    np.testing.assert_array_equal(split.mask, plain.mask)
    assert text_of(split) == text_of(plain)


def held(shards, of=8):
    """A sharding over ``of`` devices as a process sees it whose own devices hold these shards."""

    def indices(shape):
        size = shape[0] // of
        return {shard: (slice(shard * size, (shard + 1) * size),) for shard in shards}

    return SimpleNamespace(addressable_devices_indices_map=indices, shard_shape=lambda shape: (shape[0] // of,))


PROCESSES = {
    "two": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "four": [[0, 1], [2, 3], [4, 5], [6, 7]],
    "two whose devices lie apart": [[0, 1, 6, 7], [5, 4, 3, 2]],
    "two of the same rows": [list(range(8)), list(range(8))],
}


@pytest.mark.parametrize("shards", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_processes_read_the_parts_of_the_batch_that_one_process_reads(make, config, monkeypatch, split, shards):
    """The same samples at the same places with the same augmentation; prompts point into the table put together."""
    monkeypatch.setattr(pipeline, "to_device", lambda batch, sharding: batch)
    config.data.batch_size = 16
    actions = make.actions

    def start(sharding=None):
        return pipeline.batches(make.dataset, split, actions, config, train=split == "train", sharding=sharding)

    def assert_joined(parts, whole):
        place = np.concatenate([pipeline.own_rows(held(own), 16) for own in shards])
        for name in ("images", "state"):
            for row, value in zip(place, np.concatenate([getattr(part.observation, name) for part in parts])):
                np.testing.assert_array_equal(value, getattr(whole.observation, name)[row])
        for name in ("target", "mask", "task"):
            for row, value in zip(place, np.concatenate([getattr(part, name) for part in parts])):
                np.testing.assert_array_equal(value, getattr(whole, name)[row])
        table = {}
        for own, part in zip(shards, parts):
            slots = pipeline.own_rows(held(own), len(part.observation.tokens) * 8 // len(own))
            table |= dict(zip(slots.tolist(), part.observation.tokens))
        asked = np.concatenate([part.observation.prompt for part in parts])
        expected = whole.observation.tokens[whole.observation.prompt]
        for row, prompt in zip(place, asked):
            np.testing.assert_array_equal(table[int(prompt)], expected[row])

    whole, parts = start(), [start(held(own)) for own in shards]
    for _ in range(6 if split == "train" else 1):  # 72 samples are an epoch of four and a half batches
        assert_joined([next(part) for part in parts], next(whole))
    if split == "train":  # another number of processes goes on at the same sample
        (state,) = {json.dumps(iterator.get_state()) for iterator in (whole, *parts)}
        again = start()
        again.set_state(json.loads(state))
        assert_joined([next(part) for part in parts], next(again))


def test_a_position_of_another_kind_is_refused(make):
    with pytest.raises(ValueError, match="not a number of samples"):
        make().set_state({"processes": [{"next_index": 8}]})


def test_a_batch_larger_than_the_training_split_is_refused(make, config):
    config.data.batch_size = 80
    with pytest.raises(ValueError, match=r"split train of .* has 72 steps of the wanted tasks, fewer than .* 80"):
        make("train")


def test_held_out_steps_fill_a_batch_however_few_they_are(make, config):
    config.data.batch_size = 32
    (batch,) = make("val")
    rows = [state.tobytes() for state in batch.observation.state]
    assert len(rows) == 32 and len(set(rows)) == 24


def test_history_is_the_views_of_earlier_steps_oldest_first(config):
    config.model.history, config.model.history_stride = 1, 2
    dataset = DataSet(config.data.path, config.env.cameras)
    split = dataset.split("val")
    batch = next(pipeline.batches(dataset, "val", dataset.action_space(config), config, train=False))
    states = dataset.action_space(config).normalise_state(split.state)
    for images, state in zip(batch.observation.images, batch.observation.state):
        row = int(np.argmin(np.abs(states - state).sum(axis=1)))
        before, now = split.rows_before(row, 1, 2)
        np.testing.assert_array_equal(images, np.concatenate([split.images(before), split.images(now)]))


def test_a_views_history_is_augmented_as_one(config):
    config.model.history = 1
    dataset = DataSet(config.data.path, config.env.cameras)
    batch = next(pipeline.batches(dataset, "train", dataset.action_space(config), config, train=True))
    before, now = np.split(batch.observation.jitter, 2, axis=1)
    np.testing.assert_array_equal(before, now)
    assert (now[:, 0] != now[:, 1]).any()
