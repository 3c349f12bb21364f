import dataclasses

import numpy as np
import pytest

from drifting_vla_jax.figures.inputs import FigureInputs
from tests.figures.fake import fake_snapshot


def test_a_snapshot_comes_back_as_it_was_saved(tmp_path, snapshot):
    snapshot.save(tmp_path / "deep" / "00000500.npz")
    again = FigureInputs.load(tmp_path / "deep" / "00000500.npz")
    for field in dataclasses.fields(FigureInputs):
        before, after = getattr(snapshot, field.name), getattr(again, field.name)
        assert type(before) is type(after), field.name
        np.testing.assert_array_equal(before, after)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["00000500.npz"]


def test_one_without_attention_and_temperatures_comes_back_too(tmp_path):
    nothing = {"attention": np.zeros((12, 0, 4, 4)), "temperatures": np.zeros(0), "drift_rms": np.zeros(0)}
    fake_snapshot(**nothing, tasks=()).save(tmp_path / "s.npz")
    again = FigureInputs.load(tmp_path / "s.npz")
    assert again.attention.shape == (12, 0, 4, 4) and again.tasks == ()


def test_an_array_that_does_not_fit_the_others_is_named(snapshot):
    with pytest.raises(ValueError, match=r"drift has shape \(16, 7, 8, 10\); expected \[b g h 10\]"):
        dataclasses.replace(snapshot, drift=snapshot.drift[:, :7])
    with pytest.raises(ValueError, match="frames"):
        dataclasses.replace(snapshot, cameras=("front",))


def test_a_failed_save_leaves_nothing(tmp_path, snapshot, monkeypatch):
    def torn(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", torn)
    with pytest.raises(OSError, match="disk full"):
        snapshot.save(tmp_path / "s.npz")
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_one_clear_error(tmp_path, snapshot):
    snapshot.save(tmp_path / "s.npz")
    (tmp_path / "s.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"s\.npz is damaged"):
        FigureInputs.load(tmp_path / "s.npz")
    np.savez(tmp_path / "other.npz", step=1)
    with pytest.raises(ValueError, match="of another version"):
        FigureInputs.load(tmp_path / "other.npz")
