"""Recordings read back with rerun's own reader: every episode, its numbers on both time lines, its images unchanged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.report import rerun_export
from drifting_vla_jax.report.dataset import reader as demonstrations
from drifting_vla_jax.rollout.video import VideoWriter
from tests.report.conftest import episode

ROOT = Path(__file__).parents[2]
chunk = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed: pip install '.[rerun]'")


def entities(path) -> dict[str, list]:
    """{entity path: its chunks} of the recording."""
    reader = chunk.RrdReader(path)
    (recording,) = reader.recordings()
    assert len(reader.blueprints()) == 1
    found: dict[str, list] = {}
    for part in reader.stream(store=recording):
        found.setdefault(part.entity_path, []).append(part)
    return found


def columns(chunks) -> dict[str, np.ndarray]:
    """{name: values} of the chunk that is on a time line; component columns without their list of one."""
    (batch,) = [part.to_record_batch() for part in chunks if not part.is_static]
    out = {}
    for name, column in zip(batch.schema.names, batch.columns):
        if not name.startswith("rerun."):
            values = column.to_pylist()
            out[name] = [v[0] if isinstance(v, list) else v for v in values]
    return out


def test_a_data_set(dataset_path, tmp_path):
    out = tmp_path / "set.rrd"
    assert rerun_export.export_data(dataset_path, out, episodes=0) == 8
    found = entities(out)
    data = demonstrations.open_data(dataset_path)
    roots = {path.split("/")[1] for path in found} - {"__properties", "about"}
    assert len(roots) == 8 and "train_0003_reach-blue" in roots
    (third,) = [e for e in demonstrations.read_demonstrations(data, ["train"]) if e.index == 3]
    root = "/train_0003_reach-blue"
    z = columns(found[f"{root}/action/z"])
    assert z["Scalars:scalars"] == pytest.approx(third.actions[:, 2].tolist()) and z["step"] == list(range(12))
    assert [t.total_seconds() for t in z["time"]] == pytest.approx((np.arange(12) / 20).tolist())
    grip = columns(found[f"{root}/state/gripper"])
    assert grip["Scalars:scalars"] == pytest.approx(third.state[:, 3].tolist())
    target = columns(found[f"{root}/world/target"])
    assert target["Transform3D:translation"][5] == pytest.approx(third.actions[5, :3].tolist())
    assert target["Transform3D:quaternion"][5] == pytest.approx(third.actions[5, 3:7].tolist())
    side = columns(found[f"{root}/cameras/side"])
    record = data.split("train").records[third.first + 7]
    assert bytes(side["EncodedImage:blob"][7]) == record["images"]["side"]
    assert set(side["EncodedImage:media_type"]) == {"image/png"}
    assert "go to the blue ball" in str(found[f"{root}/instruction"][0].to_record_batch().to_pydict())


def test_some_episodes_of_some_tasks(dataset_path, tmp_path):
    out = tmp_path / "some.rrd"
    assert rerun_export.export_data(dataset_path, out, tasks=["reach-red"], episodes=2) == 2
    roots = {path.split("/")[1] for path in entities(out)} - {"__properties", "about"}
    assert roots == {"train_0000_reach-red", "val_0000_reach-red"}


def test_an_evaluation(make_run, evaluate, tmp_path):
    folder = evaluate(
        make_run(), [episode("reach", s, s < 1, video="videos/1.mp4" if s == 1 else "") for s in range(3)]
    )
    writer = VideoWriter(folder / "videos" / "1.mp4", 10.0)
    for value in range(5):
        writer.add(np.full((32, 32, 3), 40 * value, np.uint8))
    writer.close()
    out = tmp_path / "eval.rrd"
    assert rerun_export.export_evaluation(folder, out, episodes=2) == 2
    found = entities(out)
    roots = {path.split("/")[1] for path in found} - {"__properties", "about", "results"}
    assert roots == {"reach_v0_seed0", "reach_v0_seed1"}  # the filmed one is among them
    trip = columns(found["/reach_v0_seed1/latency/round_trip_ms"])
    assert trip["Scalars:scalars"] == [10.0, 20.0] and trip["request"] == [0, 1]
    video = columns(found["/reach_v0_seed1/video"])
    assert [t.total_seconds() for t in video["time"]] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)
    assert "/reach_v0_seed0/video" not in found
    outcome = str(found["/reach_v0_seed1/outcome"][0].to_record_batch().to_pydict())
    assert "outcome: time_limit" in outcome and "reach the red ball" in outcome


def test_what_is_not_there(tmp_path, make_run, evaluate):
    with pytest.raises(FileNotFoundError, match="is no evaluation"):
        rerun_export.export_evaluation(tmp_path, tmp_path / "x.rrd")
    folder = evaluate(make_run(), [episode("reach", 0, True)])
    with pytest.raises(ValueError, match="nearest is 'reach', it has reach"):
        rerun_export.export_evaluation(folder, tmp_path / "x.rrd", tasks=["reech"])
    assert not list(tmp_path.glob("*.rrd*"))


def test_a_failure_leaves_no_file(dataset_path, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("disk full")

    monkeypatch.setattr(rerun_export, "_log_demonstration", fails)
    with pytest.raises(RuntimeError, match="disk full"):
        rerun_export.export_data(dataset_path, tmp_path / "x.rrd")
    assert not list(tmp_path.glob("*x.rrd*"))


@pytest.mark.slow
def test_without_rerun_one_line_says_what_to_install(dataset_path, tmp_path):
    code = (
        "import sys; sys.modules['rerun'] = None\n"
        "import runpy; sys.argv = ['rerun_export', *sys.argv[1:]]\n"
        "runpy.run_module('drifting_vla_jax.report.rerun_export', run_name='__main__')"
    )
    command = [sys.executable, "-c", code, f"--data={dataset_path}", f"--out={tmp_path}/x.rrd"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    (line,) = result.stderr.splitlines()
    assert result.returncode != 0 and line == "error: rerun-sdk is not installed: pip install 'drifting-vla-jax[rerun]'"
