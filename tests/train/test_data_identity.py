"""A run that goes on knows its data again: the same elsewhere, changed but alike, or of other statistics."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core.episode import encode_png
from drifting_vla_jax.data import tfds_writer
from drifting_vla_jax.data.identity import identify
from drifting_vla_jax.data.mixture import open_data
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.train import data_identity
from drifting_vla_jax.train.assets import Assets, make_assets
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.data_identity import check_resumed, disagreement
from tests.small import SIZE, episode, write_episodes

NAMES = ("x", "y", "z", "gripper")


def begun(config):
    """What a checkpoint of a run on ``config.data`` remembers, through JSON and back."""
    data = open_data(config)
    assets = make_assets(
        config, data, data.action_space(config), {"vision": "scratch", "text": "scratch"}, identify(data)
    )
    return Assets.from_json(json.loads(json.dumps(assets.to_json())))


def go_on(before, config):
    data = open_data(config)
    before.spaces(config)
    check_resumed(before, 3, config, data, identify(data))


@pytest.fixture
def said(caplog):
    """said() -> the warnings so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def rebuilt(config, tmp_path):
    """rebuilt(numbers, metadata) -> configuration of a copy of the data set: each changes the arrays, or metadata, in place."""

    def rebuilt(numbers=None, metadata=None, name="again"):
        shutil.copytree(config.data.path, tmp_path / name, dirs_exist_ok=True)
        folder = tfds_writer.folder(tmp_path / name)
        about = json.loads((folder / "metadata.json").read_text())
        for split in about["episodes"] if numbers else ():
            with np.load(folder / f"low_dim-{split}.npz") as arrays:
                np.savez(folder / f"low_dim-{split}.npz", **dict(arrays) | numbers(dict(arrays)))
        if metadata:
            metadata(about)
            (folder / "metadata.json").write_text(json.dumps(about))
        changed = config.copy_and_resolve_references()
        changed.data.path = str(tmp_path / name)
        return changed

    return rebuilt


def scaled(state=1.0, actions=1.0):
    """Positions of both times so much."""
    by_state, by_action = np.float32([state] * 3 + [1]), np.float32([actions] * 3 + [1] * 5)
    return lambda low: {"state": low["state"] * by_state, "actions": low["actions"] * by_action}


def test_the_same_contents_elsewhere_are_not_worth_a_word(config, rebuilt, said):
    go_on(begun(config), config)
    go_on(begun(config), rebuilt())
    assert said() == []


def other_words(about):
    about["instructions"][1] = "approach red"


def other_rate(about):
    about["control_hz"] = 10.0


def other_names(about):
    about["state_names"][3] = "opening"


@pytest.mark.parametrize(
    "numbers, metadata, words",
    [
        (None, other_words, "1 instructions gone, such as 'reach red'; 1 instructions new, such as 'approach red'"),
        (None, other_rate, "20 -> 10 steps per second"),
        (None, other_names, "state x y z gripper -> x y z opening"),
        (scaled(1.0001, 1.0001), None, "train: other states or actions; val: other states or actions"),
    ],
)
def test_a_changed_set_of_the_same_statistics_is_one_line(numbers, metadata, words, config, rebuilt, said):
    goes_on_with_one_line(config, rebuilt(numbers, metadata), words, said)


def test_a_set_of_fewer_episodes_is_one_line(config, said, tmp_path):
    changed = config.copy_and_resolve_references()
    changed.data.path = str(write_episodes(tmp_path / "fewer", [episode(k) for k in (1, 2, 3, 4, 5, 7)], held_out=1))
    words = "train: 6 -> 5 episodes, 72 -> 60 steps; val: 2 -> 1 episodes, 24 -> 12 steps"
    goes_on_with_one_line(config, changed, words, said)


def goes_on_with_one_line(config, changed, words, said):
    go_on(begun(config), changed)
    path, line = said()
    assert "data.path" in path and words in line and "\n" not in line
    assert line.startswith(f"data set {changed.data.path} is not what step 3 was trained on (")
    assert line.endswith("its statistics agree, and the training goes on with the checkpoint's")


def turned_gripper(low):
    return {"actions": np.concatenate([low["actions"][:, :7], 1 - low["actions"][:, 7:]], axis=1)}


def not_finite(low):
    return {"state": np.where(np.arange(len(low["state"]))[:, None] == 5, np.nan, low["state"])}


def a_wrist_that_turns(low):
    angle = np.linspace(0, 3, len(low["actions"]))[:, None]
    quaternion = np.concatenate([0 * angle, 0 * angle, np.sin(angle / 2), np.cos(angle / 2)], axis=1)
    return {"actions": np.concatenate([low["actions"][:, :3], quaternion, low["actions"][:, 7:]], axis=1)}


@pytest.mark.parametrize(
    "numbers, metadata, words",
    [
        (scaled(1000, 1000), None, "state [xyz]: mean .* -> .*, standard deviation"),  # millimetres
        (scaled(actions=39.37), None, "step . of the action's [xyz]: mean"),  # inches, of the targets alone
        (lambda low: {"state": low["state"] + np.float32([5, 0, 0, 0])}, None, "state x: mean"),  # another base frame
        (lambda low: {"state": np.roll(low["state"], 1, 1)}, None, "state [xyz]: mean"),  # columns out of order
        (
            lambda low: {"state": low["state"][:, [1, 0, 2, 3]]},
            lambda about: about.update(state_names=["y", "x", "z", "gripper"]),
            "the entries of its state are in another order",
        ),
        (turned_gripper, None, "step . of the action's gripper: mean"),
        (a_wrist_that_turns, None, "step . of the action's rotation .: mean"),
        (not_finite, None, "state .: mean .* -> nan"),
    ],
)
def test_other_statistics_are_refused(numbers, metadata, words, config, rebuilt):
    changed = rebuilt(numbers, metadata)
    with pytest.raises(ValueError, match=words) as caught:
        go_on(begun(config), changed)
    assert "is not what step 3 was trained on" in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith("Bring back the data it was trained on, or start in another --workdir")


def test_another_number_of_states_is_refused(config, rebuilt):
    more = rebuilt(
        lambda low: {"state": np.pad(low["state"], ((0, 0), (0, 3)))}, lambda a: a["state_names"].extend("abc")
    )
    more.env.state_dim = 7
    with pytest.raises(ValueError, match="its state has 7 numbers, the checkpoint's 4"):
        go_on(begun(config), more)


def old(before):
    """As a version wrote it that knew no identities."""
    told = before.to_json()
    for part in (told, *told.get("sets", ())):
        part.pop("data", None)
    return Assets.from_json(told)


def test_an_older_checkpoint_goes_on_and_its_statistics_are_compared(config, rebuilt, said):
    go_on(old(begun(config)), config)
    (line,) = said()
    assert "is not known to be what step 3 was trained on (its contents were not recorded then)" in line
    with pytest.raises(ValueError, match="its statistics are others, state"):
        go_on(old(begun(config)), rebuilt(scaled(1000, 1000)))


def test_other_images_alone_are_noticed(config, tmp_path, said):
    episodes = [episode(number) for number in range(8)]
    black = [encode_png(np.zeros((SIZE, SIZE, 3), np.uint8))] * 12
    changed = [dataclasses.replace(each, images=each.images | {"side": black}) for each in episodes]
    before = begun(config)
    config.data.path = str(write_episodes(tmp_path / "dark", changed))
    go_on(before, config)
    assert "(train: other images of side; val: other images of side)" in said()[-1]
    shutil.rmtree(tmp_path / "dark")
    config.data.path = str(write_episodes(tmp_path / "dark", episodes))  # built anew from the same episodes
    go_on(before, config)
    assert len(said()) == 2


def test_every_set_of_a_mixture_is_known_by_its_name(mixed_config, tmp_path, said):
    before, paths = begun(mixed_config), mixed_config.data.mixture.paths
    shutil.copytree(paths[1], tmp_path / "front")
    changed = mixed_config.copy_and_resolve_references()
    changed.data.mixture.paths = (
        paths[2],
        str(tmp_path / "front"),
        paths[0],
    )  # in another order, one of them elsewhere
    go_on(before, changed)
    assert said() == []
    file = tfds_writer.folder(tmp_path / "front") / "low_dim-train.npz"
    with np.load(file) as arrays:
        np.savez(file, **dict(arrays) | scaled(1 / 3, 1 / 3)(dict(arrays)))  # metres again: as the set "both"
    with pytest.raises(
        ValueError, match=f"data set {tmp_path / 'front'} is not what step 3 .*train: other states or act"
    ):
        go_on(before, changed)
    go_on(old(before), mixed_config)
    assert len([each for each in said() if "were not recorded then" in each]) == 3


def test_a_run_refuses_other_units_and_leaves_all_as_it_was(train, config, rebuilt, tmp_path):
    config.train.steps = 3
    train(tmp_path / "run")
    config.train.steps, config.data.path = 6, rebuilt(scaled(1000, 1000)).data.path
    with pytest.raises(ValueError, match="its statistics are others, state"):
        train(tmp_path / "run")
    assert Checkpoints(tmp_path / "run").latest() == 3
    assert Path(json.loads((tmp_path / "run" / "config.json").read_text())["data"]["path"]) != Path(config.data.path)


def test_damaged_records_are_named_at_once(config, rebuilt):
    changed = rebuilt()
    for file in tfds_writer.folder(changed.data.path).glob("*.array_record-*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(
        ValueError, match="record .* of split train of data set .* has no image of front, side that can be read"
    ):
        identify(open_data(changed))


def test_processes_that_see_other_data_are_named(config, monkeypatch):
    data = open_data(config)
    assert data_identity.identify_for_all(data) == identify(data)
    monkeypatch.setattr(data_identity.jax, "process_count", lambda: 3)
    seen = []

    def gather(own):
        seen.append(own)
        return np.stack([own, own, own ^ np.uint8(len(seen) - 1)])

    monkeypatch.setattr(data_identity.multihost_utils, "process_allgather", gather)
    assert data_identity.identify_for_all(data) == identify(data)
    with pytest.raises(
        ValueError, match="process 2 sees other data in .* than process 0 does: give every machine the same"
    ):
        data_identity.identify_for_all(data)


def walks(seed, count):
    """Statistics of random walks; rows of ``count`` episodes of 20 steps."""
    rng = np.random.default_rng(seed)
    path = 0.3 * rng.standard_normal((count, 1, 3)) + np.cumsum(0.02 * rng.standard_normal((count, 21, 3)), 1)
    opening = np.broadcast_to((np.arange(21) < 12)[:, None], (count, 21, 1)).astype(float)
    state = np.concatenate([path[:, :-1], opening[:, :-1]], 2).reshape(-1, 4)
    turn = np.broadcast_to([0, 0, 0, 1.0], (count, 20, 4))
    actions = np.concatenate([path[:, 1:], turn, opening[:, 1:]], 2).reshape(-1, 8)
    return state, actions, np.repeat(20 * np.arange(1, count + 1) - 1, 20)


def fitted(state, actions, last):
    return ActionNormalizer.fit(state, actions, np.arange(len(state)), last, 4, "relative")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(8, 60), st.integers(0, 2), st.floats(12, 1e9), st.booleans())
def test_unlike_units_never_pass_and_like_episodes_always_do(seed, count, entry, scale, smaller):
    """Of the same kind of episodes some more, some fewer, or all others; of one position in another unit, larger or smaller."""
    before, one_less, others = (walks(*which) for which in ((seed, count), (seed, count), (seed + 1, count + 3)))
    old = fitted(*before)
    for state, actions, last in ((x[:-20] for x in one_less), others):
        assert disagreement(old, fitted(state, actions, last), NAMES, count, len(state) // 20) == ""
    state, actions, last = others
    by = np.ones(4)
    by[entry] = 1 / scale if smaller and scale < 20 else scale
    said = disagreement(old, fitted(state * by, actions, last), NAMES, count, count + 3)
    assert said.startswith(f"state {NAMES[entry]}: mean")
