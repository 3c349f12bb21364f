"""A data set of one episode, without validation: built, looked at, exported, mixed, read, as any other is."""

import json

import numpy as np
import pytest

from drifting_vla_jax.core.episode import Episode
from drifting_vla_jax.data import export, tfds_writer
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.mixture import open_data
from drifting_vla_jax.data.sources.rollouts import RolloutSettings, collect
from drifting_vla_jax.data.sources.scripted import CollectSettings
from drifting_vla_jax.report.dataset.page import write_page
from tests.small import CAMERAS


def test_it_is_read_like_any_other(single_path, config):
    config.data.path, config.env.tasks = str(single_path), ("reach-red",)
    data = open_data(config)
    assert list(data.metadata["episodes"]) == ["train"] and len(data.split("train")) == 12
    assert not (tfds_writer.folder(single_path) / "low_dim-val.npz").exists()
    space = data.action_space(config)
    assert np.isfinite(space.std).all() and space.active.any()


def test_the_page_is_of_its_one_episode(single_path, tmp_path):
    page, _ = write_page(single_path, tmp_path / "page.html", budget=0)
    assert "1 train" in page.read_text() and "val" not in DataSet(single_path, CAMERAS).metadata["episodes"]


def test_it_is_exported_and_comes_back(single_path, tmp_path):
    assert export.export_episodes(single_path, tmp_path / "files") == 1
    (path,) = (tmp_path / "files").rglob("*.npz")
    assert path.name == "train-000000.npz" and len(Episode.load(path)) == 12
    for fraction, held in ((0.0, 0), (0.1, 0), (0.9, 0)):
        settings = RolloutSettings(str(tmp_path / "files"), (), 0, False, fraction)
        splits, _, _ = collect(settings, tmp_path / "out")
        assert (len(splits["train"]), len(splits["val"])) == (1 - held, held)


@pytest.mark.slow
def test_lerobot_files_of_it_have_one_split(single_path, tmp_path):
    assert export.export(single_path, tmp_path / "set", crf=18)["splits"] == {"train": "0:1"}


def test_a_mixture_has_sets_with_and_without_validation(single_path, dataset_path, config):
    config.data.mixture.paths = (str(dataset_path), str(single_path))
    mixture = open_data(config)
    assert {name: len(told) for name, told in mixture.metadata["episodes"].items()} == {"train": 7, "val": 2}
    assert len(mixture.split("train")) == 84 and len(mixture.split("val")) == 24


def test_a_set_without_a_training_split_is_refused(single_path, config, tmp_path):
    config.data.path, config.env.tasks = str(tmp_path), ("reach-red",)
    folder = tfds_writer.folder(tmp_path)
    folder.mkdir(parents=True)
    for file in tfds_writer.folder(single_path).iterdir():
        text = file.read_bytes().replace(b'"train"', b'"val"') if file.suffix == ".json" else file.read_bytes()
        (folder / file.name.replace("train", "val")).write_bytes(text)
    assert list(json.loads((folder / "metadata.json").read_text())["episodes"]) == ["val"]
    with pytest.raises(ValueError, match=rf"{tmp_path} has no split train, only val: there is nothing to learn from"):
        open_data(config)


@pytest.mark.parametrize(
    "episodes, fraction, held", [(1, 0.0, 0), (1, 0.6, 0), (2, 0.9, 1), (40, 0.001, 1), (40, 0.0, 0)]
)
def test_scripted_episodes_are_divided_by_the_same_rule(episodes, fraction, held):
    settings = CollectSettings(
        ("drawer-open",), episodes, ("top",), 64, 2, 0.4, 12, 2, 0, fraction, 0.95, 1, "metaworld"
    )
    splits = [settings.split(index) for index in range(episodes)]
    assert splits.count("val") == held and splits[0] == "train"
