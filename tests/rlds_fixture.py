"""Four RLDS data sets (tests/fixtures/rlds.tar.xz), written by tensorflow_datasets' own tools, which need TensorFlow.

pip install -e '.[parity]' && python -m tests.rlds_fixture          # makes the archive again
"""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

ARCHIVE = Path(__file__).parent / "fixtures" / "rlds.tar.xz"
FORMATS = {"libero": "tfrecord", "fractal": "tfrecord", "bridge": "tfrecord", "droid": "array_record"}
STEPS, EPISODES, SIZE = 6, 4, 16
TEXT = tfds.features.Text()


def vector(size):
    return tfds.features.Tensor(shape=(size,), dtype=np.float32)


def image(kind="png"):
    return tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format=kind)


STEP = {
    "libero": {
        "observation": {"image": image("jpeg"), "wrist_image": image(), "state": vector(8)},
        "action": vector(7),
        "language_instruction": TEXT,
    },
    "fractal": {
        "observation": {"image": image(), "base_pose_tool_reached": vector(7), "gripper_closed": vector(1),
                        "natural_language_instruction": TEXT},
        "action": {"world_vector": vector(3), "rotation_delta": vector(3), "gripper_closedness_action": vector(1)},
    },
    "bridge": {"observation": {"image_0": image(), "state": vector(7)}, "action": vector(7), "language_instruction": TEXT},
    "droid": {
        "observation": {"exterior_image_1_left": image(), "wrist_image_left": image(), "cartesian_position": vector(6),
                        "gripper_position": vector(1), "joint_position": vector(7)},
        "action_dict": {"cartesian_position": vector(6), "gripper_position": vector(1), "joint_position": vector(7)},
        "language_instruction": TEXT, "language_instruction_2": TEXT, "language_instruction_3": TEXT,
    },
}  # fmt: skip


def drawn(feature, name, rng, step):
    """A value for a feature: pictures and quaternions that are some, texts, numbers of -1 .. 1."""
    if isinstance(feature, dict):
        return {key: drawn(inner, key, rng, step) for key, inner in feature.items()}
    if feature is TEXT:
        return "" if name.endswith("_3") else f"Put it there{name[-2:] if name[-1] == '2' else ''}"
    if isinstance(feature, tfds.features.Image):
        return np.full((SIZE, SIZE, 3), 20 * step + 10, np.uint8)
    values = rng.uniform(-1, 1, feature.shape).astype(np.float32)
    if name == "base_pose_tool_reached":
        values[3:] /= np.linalg.norm(values[3:])
    return np.sign(values) * (step % 3 == 1) if name == "gripper_closedness_action" else values


def episodes(name):
    for number in range(EPISODES):
        rng = np.random.default_rng(number)
        yield [drawn(STEP[name], "", rng, step) for step in range(STEPS)]


def build(name: str, out: Path, file_format: str = "tfrecord") -> Path:
    """A data set whose features are those of TFDS' own rlds_base."""
    from tensorflow_datasets.rlds import rlds_base

    config = rlds_base.DatasetConfig(
        name="default",
        step_metadata_info=STEP[name],
        episode_metadata_info={"episode_metadata": {"file_path": TEXT}},
    )

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = (config,)
        pkg_dir_path = out

        def _info(self):
            return rlds_base.build_info(self.builder_config, self)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, steps in enumerate(episodes(name)):
                ends = {"is_terminal": False, "is_first": False, "is_last": False}
                yield number, {"steps": [ends | step for step in steps], "episode_metadata": {"file_path": "x"}}

    builder = Made(data_dir=str(out), file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
    return Path(builder.data_dir)


def unpack(out: Path) -> Path:
    """OUT/<name>/1.0.0/..."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(out, filter="data")
    return out


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        made = Path(folder)
        for name, file_format in FORMATS.items():
            root = build(name, made / name, file_format)
            for file in sorted(root.iterdir()):
                entry = tarfile.TarInfo(f"{name}/1.0.0/{file.name}")
                entry.size = file.stat().st_size
                archive.addfile(entry, io.BytesIO(file.read_bytes()))
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
