"""A mixture: every set in its share and with its own statistics, what it lacks marked, and no order but the seed's."""

import itertools
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.data.mixture import Mixture, open_data
from drifting_vla_jax.data.sampling import ShuffledIndex, WeightedMixtureIndex
from drifting_vla_jax.train.state import fake_batch
from tests.small import CAMERAS, MIXED_TASKS, SETS

ROWS = {"both": 48, "front": 72, "side": 24}  # of the training splits


def ordered(weights, lengths, seed=0):
    """A mixed order over sets of so many rows, numbered through; and which set each row is of."""
    starts = np.cumsum([0, *lengths])
    orders = [ShuffledIndex(np.arange(a, b), seed, 3 + k) for k, (a, b) in enumerate(itertools.pairwise(starts))]
    return WeightedMixtureIndex(orders, weights, seed), np.repeat(np.arange(len(lengths)), lengths)


@pytest.mark.parametrize("weights", [(5, 3, 2), (1, 1, 1), (0.9, 0.09, 0.01), (2.0, 0.005, 0.3)])
def test_shares_are_the_weights_over_any_ten_thousand_samples(weights):
    """Acceptance: within 1%. Of a rare set a hundred or fewer are shown: there two samples more or less are allowed."""
    order, source = ordered(weights, (400, 3000, 50))
    wanted = 10_000 * np.array(weights) / sum(weights)
    for start in (0, 137, 999_950, 10**12 + 1):
        shown = np.bincount(source[order(np.arange(start, start + 10_000))], minlength=3)
        assert (np.abs(shown - wanted) <= np.maximum(0.01 * wanted, 2)).all()


def test_a_sample_follows_from_its_number_and_the_seed():
    order, _ = ordered((5, 3, 2), (40, 30, 50))
    numbers = np.arange(1000)
    whole, shuffled = order(numbers), np.random.default_rng(0).permutation(numbers)
    again, other = (ordered((5, 3, 2), (40, 30, 50), seed)[0] for seed in (0, 1))
    np.testing.assert_array_equal(again(shuffled), whole[shuffled])
    assert (other(numbers) != whole).any()


def test_each_set_has_epochs_of_its_own():
    """Every row once before any comes again, and then in another order."""
    order, source = ordered((5, 3, 2), (40, 30, 50))
    rows = order(np.arange(1000))
    for k, length in enumerate((40, 30, 50)):
        own = rows[source[rows] == k]
        epochs = own[: len(own) // length * length].reshape(-1, length)
        assert len(epochs) >= 4 and (np.sort(epochs) == np.flatnonzero(source == k)).all()
        assert len({tuple(epoch) for epoch in epochs.tolist()}) == len(epochs)


@pytest.fixture
def mixture(mixed_config):
    return open_data(mixed_config)


@pytest.fixture
def make(mixture, mixed_config):
    """make(sharding) -> training batches of the mixture."""
    spaces = mixture.action_space(mixed_config)
    return lambda on=None: pipeline.batches(mixture, "train", spaces, mixed_config, train=True, sharding=on)


def text_of(batch):
    o = batch.observation
    return [bytes(int(t) - 1 for t in row if t).decode() for row in o.tokens[o.prompt]]


def test_batches_are_what_the_network_is_told_to_expect(make, mixed_config):
    expected, batch = fake_batch(mixed_config, 8, prompts=8), next(make())
    assert jax.tree.structure(batch) == jax.tree.structure(expected)
    jax.tree.map(lambda x, y: np.testing.assert_equal((x.shape, x.dtype), (y.shape, y.dtype)), batch, expected)


def test_each_row_is_its_own_sets_under_its_own_statistics(make, mixture, mixed_config):
    """Images of the views that there are and black where there is none, words, task, state, target and mask."""
    mixed_config.data.state_noise, spaces, seen = 0.0, mixture.action_space(mixed_config), set()
    for batch in itertools.islice(make(), 4):
        o = batch.observation
        for i, text in enumerate(text_of(batch)):
            there = tuple(np.array(CAMERAS)[o.seen[i]])
            k = list(SETS.values()).index(there)
            data, space, split = mixture.sets[k], spaces.sets[k], mixture.sets[k].split("train")
            distance = np.abs(space.normalise_state(split.state) - o.state[i]).max(1)
            row = int(distance.argmin())
            assert distance[row] < 1e-6
            np.testing.assert_array_equal(o.images[i][o.seen[i]], split.images(row))
            assert not o.images[i][~o.seen[i]].any()
            first, count = split.prompts[row]
            assert text in [data.instructions[p] for p in split.prompt_ids[first : first + count]]
            assert MIXED_TASKS[batch.task[i]] == data.tasks[split.task[row]]
            ahead = min(4, split.last[row] - row + 1)
            back = space.denormalise(batch.target[i], split.state[row, :3])
            np.testing.assert_allclose(back[:ahead], split.actions[row : row + ahead], atol=1e-5)
            np.testing.assert_array_equal(batch.mask[i], (np.arange(4) < ahead)[:, None] & space.active)
            seen.add(k)
    assert seen == {0, 1, 2}
    assert (
        spaces.sets[1].std[0, 0] > 2 * spaces.sets[0].std[0, 0]
    )  # three times as far, and yet as large to the network


def test_a_restored_iterator_goes_on_with_the_next_batch(make):
    running = make()
    list(itertools.islice(running, 3))
    state = json.loads(json.dumps(running.get_state()))
    restored = make()
    restored.set_state(state)
    for a, b in itertools.islice(zip(running, restored), 20):  # more than an epoch of each set
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_processes_read_the_parts_of_the_batch_that_one_process_reads(make, monkeypatch):
    monkeypatch.setattr(pipeline, "to_device", lambda batch, sharding: batch)

    def held(*shards):
        def indices(shape):
            return {shard: (slice(2 * shard, 2 * shard + 2),) for shard in shards}

        return SimpleNamespace(addressable_devices_indices_map=indices, shard_shape=lambda shape: (shape[0] // 4,))

    whole, parts = make(), [make(held(0, 1)), make(held(2, 3))]
    for _ in range(3):
        expected, found = next(whole), [next(part) for part in parts]
        for name in ("images", "state", "seen"):
            joined = np.concatenate([getattr(part.observation, name) for part in found])
            np.testing.assert_array_equal(joined, getattr(expected.observation, name))
        np.testing.assert_array_equal(np.concatenate([part.target for part in found]), expected.target)


def test_history_repeats_what_is_seen(mixture, mixed_config):
    mixed_config.model.history = 1
    batch = next(pipeline.batches(mixture, "train", mixture.action_space(mixed_config), mixed_config, train=True))
    assert batch.observation.seen.shape == (8, 4) and batch.observation.images.shape[:2] == (8, 4)
    np.testing.assert_array_equal(batch.observation.seen[:, :2], batch.observation.seen[:, 2:])


@pytest.mark.parametrize("name", SETS)
def test_one_set_alone_is_validated_as_the_mixture_shows_it(mixture, mixed_config, name):
    """Each held-out row once; with the same table of instructions, so that one compiled program serves all sets."""
    k = mixture.names.index(name)
    alone, space = mixture.alone(name), mixture.action_space(mixed_config).sets[k]
    found = list(pipeline.batches(alone, "val", space, mixed_config, train=False))
    own = mixture.sets[k].split("val")
    assert len(found) == len(own) // 8 and alone.metadata["control_hz"] == (10.0 if name == "side" else 20.0)
    states = np.concatenate([batch.observation.state for batch in found])
    expected = space.normalise_state(own.state)
    np.testing.assert_allclose(states[np.lexsort(states.T)], expected[np.lexsort(expected.T)], atol=1e-6)
    assert {batch.observation.tokens.shape for batch in found} == {(8, mixed_config.data.max_tokens)}
    assert all((batch.observation.seen == [c in SETS[name] for c in CAMERAS]).all() for batch in found)


def test_the_whole_of_it_can_be_told(mixture):
    assert mixture.names == tuple(SETS) and mixture.tasks == list(MIXED_TASKS)
    assert sum(e["length"] for e in mixture.metadata["episodes"]["train"]) == sum(ROWS.values())
    assert mixture.metadata["source"] == "test" and len(mixture.split("train").pictures) == sum(ROWS.values())


def described(folder, out, **changes):
    """A copy of a data set that says something else about itself."""
    shutil.copytree(folder, out)
    (file,) = out.rglob("metadata.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return out


@pytest.mark.parametrize(
    ("about", "changes", "message"),
    [
        ({"image_size": 32}, {}, r"data set .*odd has images of 32 px, config.env.image_size is 16; change the config"),
        (
            {"state_names": ["x", "y", "z"]},
            {},
            r"data set .*odd has a state of 3 \(x, y, z\), config.env.state_dim is 4",
        ),
        (
            {},
            {"env.cameras": ("front", "side", "top")},
            r"asks for 'top', which no set of .* has; they have front, side",
        ),
        ({}, {"env.cameras": ("front",)}, r"data set .*side has cameras side, none of config.env.cameras, front"),
        (
            {},
            {"env.tasks": ("reach-red",)},
            r"data set .*side has none of config.env.tasks; it has lift-green: name one",
        ),
        ({}, {"env.tasks": ("reach-green",)}, r"the mixture .* has no demonstrations of 'reach-green'; nearest is"),
        (
            {},
            {"objective.drifting.memory_bank.size": 4},
            r"bank keeps chunks by task, but 'reach-red' is in several sets",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(about, changes, message, mixed_config, set_paths, tmp_path):
    if about:
        odd = described(set_paths["both"], tmp_path / "odd", **about)
        mixed_config.data.mixture.paths = (str(odd), *mixed_config.data.mixture.paths[1:])
    mixed_config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        open_data(mixed_config)


def test_a_set_that_is_not_there_is_named(mixed_config):
    mixed_config.data.mixture.paths = (*mixed_config.data.mixture.paths[:2], "data/gone")
    with pytest.raises(FileNotFoundError, match="no data set at data/gone; make one with"):
        Mixture(mixed_config)


def test_a_set_without_a_step_to_train_on_is_named(mixture, mixed_config):
    mixed_config.env.tasks = ("reach-red",)  # as ``check`` would have refused
    with pytest.raises(ValueError, match=r"training split of .*side has no step of config.env.tasks; take it out"):
        pipeline.batches(mixture, "train", mixture.action_space(mixed_config), mixed_config, train=True)
