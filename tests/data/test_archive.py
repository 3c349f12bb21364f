"""Archives that nobody has to trust: what is in place is whole, and nothing lands elsewhere."""

import stat
import zipfile
from pathlib import Path

import pytest

from drifting_vla_jax.data import archive
from drifting_vla_jax.data.archive import ArchiveError, unpack
from drifting_vla_jax.data.sources.rlbench.episodes import read_demo
from drifting_vla_jax.envs.rlbench.demos import folders
from tests.peract_fixture import make_zip

ROOT = "t/all_variations/episodes/episode{}/{}"


def small_zip(path: Path, files: dict, episodes=(0, 1, 10)) -> Path:
    """An archive of tiny episodes and of ``files``, whose names may be ZipInfo."""
    with zipfile.ZipFile(path, "w") as out:
        for number in episodes:
            for name in (*archive.NEEDED, "front_rgb/0.png"):
                out.writestr(ROOT.format(number, name), f"{number} {name}" * 20)
        for name, data in files.items():
            out.writestr(name, data)
    return path


def test_episodes_come_out_as_they_went_in(demos, tmp_path):
    path = make_zip(demos / "train/close_jar", tmp_path / "a.zip", {"close_jar/.DS_Store": b"x", "readme.txt": b"x"})
    assert unpack(path, tmp_path / "close_jar", 0) == (3, 3)
    assert [len(read_demo(p)) for p in folders(tmp_path, "close_jar").values()] == [12, 12, 12]
    for file in (demos / "train/close_jar").rglob("*.*"):
        assert (tmp_path / "close_jar" / file.relative_to(demos / "train/close_jar")).read_bytes() == file.read_bytes()
    assert not list((tmp_path / "close_jar").rglob(".DS_Store")) and not (tmp_path / "readme.txt").exists()


def test_the_first_episodes_by_number_and_later_the_rest(tmp_path):
    path, base = small_zip(tmp_path / "a.zip", {}), tmp_path / "t/all_variations/episodes"
    assert unpack(path, tmp_path / "t", 2) == (2, 3)
    assert sorted(p.name for p in base.iterdir()) == ["episode0", "episode1"]
    stamp = (base / "episode0/low_dim_obs.pkl").stat().st_mtime_ns
    (base / ".episode10.partial").mkdir()  # an earlier start was stopped here
    (base / ".episode10.partial" / "low_dim_obs.pkl").write_text("half")
    assert unpack(path, tmp_path / "t", 0) == (3, 3)
    assert sorted(p.name for p in base.iterdir()) == ["episode0", "episode1", "episode10"]
    assert (base / "episode0/low_dim_obs.pkl").stat().st_mtime_ns == stamp
    assert (base / "episode10/low_dim_obs.pkl").read_text() == "10 low_dim_obs.pkl" * 20


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(ROOT.format(0, "front_rgb/1.png"))
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"../outside": "x"}, "'../outside' leads outside"),
        ({"t/all_variations/episodes/episode0/../../../../../outside": "x"}, "leads outside"),
        ({"/outside": "x"}, "'/outside' leads outside"),
        ({"t\\..\\outside": "x"}, "leads outside"),
        ({link(): "/etc/passwd"}, "is a symbolic link"),
        ({ROOT.format(3, "low_dim_obs.pkl"): "x"}, "episode 3 lacks variation_number.pkl, variation_descriptions.pkl"),
        ({ROOT.format("01", "low_dim_obs.pkl"): "x"}, "is there twice"),
    ],
)
def test_what_is_no_archive_of_demonstrations_writes_nothing(files, said, tmp_path):
    path = small_zip(tmp_path / "in" / "a.zip", files) if (tmp_path / "in").mkdir() is None else None
    with pytest.raises(ArchiveError, match=said):
        unpack(path, tmp_path / "deep" / "t", 0)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_an_archive_without_episodes(tmp_path):
    with pytest.raises(ArchiveError, match="it holds no all_variations/episodes/episode<N>"):
        unpack(small_zip(tmp_path / "a.zip", {"readme": "x"}, episodes=()), tmp_path / "t", 0)


def test_damage_anywhere_in_a_file_is_found(tmp_path):
    path = small_zip(tmp_path / "a.zip", {})
    data = path.read_bytes()
    at = data.index(b"10 low_dim_obs.pkl" * 3)
    path.write_bytes(data[:at] + b"X" + data[at + 1 :])
    with pytest.raises(ArchiveError, match=r"it is damaged: Bad CRC-32 for file 't/.*episode10/low_dim_obs\.pkl'"):
        unpack(path, tmp_path / "t", 0)
    names = {p.name for p in (tmp_path / "t/all_variations/episodes").iterdir() if not p.name.startswith(".")}
    assert names == {"episode0", "episode1"}
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArchiveError, match="it is damaged: File is not a zip file"):
        unpack(path, tmp_path / "t", 0)


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: type("usage", (), {"free": 12 * archive.BLOCK}))
    with pytest.raises(OSError, match=r"unpacking needs 0\.00 GB in .*, 0\.00 GB are free"):
        unpack(small_zip(tmp_path / "a.zip", {}), tmp_path / "t", 0)
    assert not list((tmp_path / "t").rglob("*.pkl"))


def changed_zip(path: Path, number: int, name: str, data: str) -> Path:
    """The archive of ``small_zip`` with another file in it."""
    small_zip(path.with_suffix(".old"), {})
    with zipfile.ZipFile(path.with_suffix(".old")) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, data if info.filename == ROOT.format(number, name) else old.read(info))
    return path


@pytest.mark.parametrize("name", ["low_dim_obs.pkl", "front_rgb/0.png"])
def test_an_episode_of_another_archive_is_unpacked_again(name, tmp_path):
    """The repository was mended between two starts: what is there already is looked at, not only whether it is there."""
    base = tmp_path / "t/all_variations/episodes"
    unpack(small_zip(tmp_path / "a.zip", {}), tmp_path / "t", 2)
    stamp = (base / "episode0" / name).stat().st_mtime_ns
    data = "9" * len("1 low_dim_obs.pkl" * 20) if name.endswith("pkl") else "longer" * 100  # the same size, or another
    assert unpack(changed_zip(tmp_path / "b.zip", 1, name, data), tmp_path / "t", 0) == (3, 3)
    assert (base / "episode1" / name).read_text() == data
    assert (base / "episode0" / name).stat().st_mtime_ns == stamp
    assert sorted(p.name for p in base.iterdir()) == ["episode0", "episode1", "episode10"]


def test_an_episode_that_nobody_unpacked_is_left_and_said(tmp_path):
    """One's own recording under a number of the archive; the same files unpacked by another tool are taken."""
    base = tmp_path / "t/all_variations/episodes"
    unpack(small_zip(tmp_path / "a.zip", {}), tmp_path / "t", 0)
    for path in base.glob("*/" + archive.CHECKSUMS):
        path.unlink()
    assert unpack(tmp_path / "a.zip", tmp_path / "t", 0) == (3, 3)
    (base / "episode1/front_rgb/0.png").write_text("mine")
    with pytest.raises(FileExistsError, match="episode1 is there and is not the episode of the archive; move it away"):
        unpack(tmp_path / "a.zip", tmp_path / "t", 0)
    assert (base / "episode1/front_rgb/0.png").read_text() == "mine"
