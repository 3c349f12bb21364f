"""Small data sets of LeRobot, written by hand from the format's description: nothing of ours but the numbers is in them.

Three episodes of 7, 5 and 9 rows, 10 per second, two instructions. State and action: x y z, euler angles, gripper; or, with
``aloha``, the joints of two arms, six and a gripper each. Videos
are written, and read again as a rod to measure by, by FFmpeg's own program.
"""

import json
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10
LENGTHS = (7, 5, 9)
TASKS = ("Pick up the cube.", "Open the drawer")
OF_EPISODE = (0, 1, 0)
SIZES = {"observation.images.top": (24, 32), "observation.images.wrist": (24, 24)}  # height, width
NAMES = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
ALOHA = [f"{side}_{name}" for side in ("left", "right") for name in ARM]


def numbers(episode: int, aloha: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """State and action of an episode, float32 [t, 7]; of two arms [t, 14]."""
    rng = np.random.default_rng(episode)
    state, action, *right = (
        np.concatenate([rng.uniform(-1, 1, (LENGTHS[episode], 6)), rng.uniform(0, 1, (LENGTHS[episode], 1))], 1)
        for _ in range(4 if aloha else 2)
    )
    if aloha:
        state, action = np.concatenate([state, right[0]], 1), np.concatenate([action, right[1]], 1)
    return state.astype(np.float32), action.astype(np.float32)


def picture(episode: int, row: int, camera: str) -> np.ndarray:
    """A gradient that wanders: no two rows look alike."""
    height, width = SIZES[camera]
    y, x = np.mgrid[:height, :width]
    phase = 0.7 * row + 2 * episode + len(camera)
    return np.stack([127 + 120 * np.sin(0.12 * x + phase), 127 + 120 * np.cos(0.1 * y - phase), 8.0 * (x + y) % 200],
                    -1).astype(np.uint8)  # fmt: skip


def write_video(path: Path, frames, fps: float = FPS) -> None:
    frames = list(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = imageio_ffmpeg.write_frames(
        str(path), frames[0].shape[1::-1], fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=1, quality=None,
        ffmpeg_log_level="error", output_params=["-crf", "10", "-g", "2", "-threads", "1"],
    )  # fmt: skip
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def read_video(path: Path) -> np.ndarray:
    """uint8 [t, height, width, 3], by FFmpeg's program."""
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-threads", "1"])
    width, height = next(reader)["source_size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def _rows(episode: int, first: int, images: bool, aloha: bool = False) -> pa.Table:
    state, action = numbers(episode, aloha)
    count = LENGTHS[episode]
    columns = {
        "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.reshape(-1)), state.shape[1]),
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.reshape(-1)), action.shape[1]),
        "timestamp": pa.array((np.arange(count) / FPS).astype(np.float32)),
        "frame_index": pa.array(np.arange(count)),
        "episode_index": pa.array(np.full(count, episode)),
        "index": pa.array(first + np.arange(count)),
        "task_index": pa.array(np.full(count, OF_EPISODE[episode])),
    }
    for camera in SIZES if images else ():
        files = [cv2.imencode(".png", picture(episode, row, camera)[..., ::-1])[1].tobytes() for row in range(count)]
        columns[camera] = pa.array([{"bytes": data, "path": "frame.png"} for data in files])
    return pa.table(columns)


def _info(version: str, images: bool, data_path: str, video_path: str, aloha: bool = False) -> dict:
    kind = "image" if images else "video"
    features = {
        c: {"dtype": kind, "shape": [*size, 3], "names": ["height", "width", "channel"]} for c, size in SIZES.items()
    }
    for name in ("observation.state", "action"):
        names = {"motors": ALOHA} if aloha else NAMES
        features[name] = {"dtype": "float32", "shape": [14 if aloha else 7], "names": names}
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
    return {
        "codebase_version": version, "robot_type": "aloha" if aloha else "franka", "total_episodes": 3,
        "total_frames": sum(LENGTHS), "total_tasks": 2,
        "chunks_size": 1000, "fps": FPS, "splits": {"train": "0:3"}, "data_path": data_path,
        "video_path": video_path, "features": features,
    }  # fmt: skip


def _lines(path: Path, lines: list[dict]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_2(root: Path, images: bool = False) -> Path:
    """Version 2.1: files of their own for every episode."""
    name = "episode_{episode_index:06d}"
    data, videos = (
        f"data/chunk-{{episode_chunk:03d}}/{name}.parquet",
        f"videos/chunk-{{episode_chunk:03d}}/{{video_key}}/{name}.mp4",
    )
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(_info("v2.1", images, data, videos)))
    _lines(root / "meta" / "tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(TASKS)])
    _lines(root / "meta" / "episodes.jsonl", [{"episode_index": e, "tasks": [TASKS[OF_EPISODE[e]]], "length": LENGTHS[e]}
                                              for e in range(3)])  # fmt: skip
    for episode in range(3):
        where = {"episode_chunk": 0, "episode_index": episode}
        path = root / data.format(**where)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_rows(episode, sum(LENGTHS[:episode]), images), path)
        for camera in () if images else SIZES:
            frames = (picture(episode, row, camera) for row in range(LENGTHS[episode]))
            write_video(root / videos.format(video_key=camera, **where), frames)
    return root


def write_3(root: Path, images: bool = False, aloha: bool = False) -> Path:
    """Version 3.0: one file of rows, one of pictures per camera."""
    data, videos = ("data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
                    "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")  # fmt: skip
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(_info("v3.0", images, data, videos, aloha)))
    pq.write_table(pa.table({"task_index": [0, 1], "__index_level_0__": list(TASKS)}), root / "meta" / "tasks.parquet")
    firsts = np.cumsum([0, *LENGTHS]).tolist()
    rows = []
    for episode in range(3):
        row = {"episode_index": episode, "tasks": [TASKS[OF_EPISODE[episode]]], "length": LENGTHS[episode],
               "data/chunk_index": 0, "data/file_index": 0, "dataset_from_index": firsts[episode],
               "dataset_to_index": firsts[episode + 1]}  # fmt: skip
        for camera in () if images else SIZES:
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": 0,
                    f"videos/{camera}/from_timestamp": firsts[episode] / FPS,
                    f"videos/{camera}/to_timestamp": firsts[episode + 1] / FPS}  # fmt: skip
        rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    tables = [_rows(episode, firsts[episode], images, aloha) for episode in range(3)]
    pq.write_table(pa.concat_tables(tables), root / data.format(chunk_index=0, file_index=0))
    for camera in () if images else SIZES:
        frames = (picture(episode, row, camera) for episode in range(3) for row in range(LENGTHS[episode]))
        write_video(root / videos.format(video_key=camera, chunk_index=0, file_index=0), frames)
    return root


def seen(root: Path, episode: int, camera: str) -> np.ndarray:
    """An episode's pictures, uint8 [t, height, width, 3], as FFmpeg's program decodes them."""
    first = sum(LENGTHS[:episode])
    if (root / "meta" / "tasks.jsonl").is_file():
        return read_video(root / f"videos/chunk-000/{camera}/episode_{episode:06d}.mp4")
    return read_video(root / f"videos/{camera}/chunk-000/file-000.mp4")[first : first + LENGTHS[episode]]
