"""LeRobot's reader: the same pictures as a data set of its own, stored as images, read through its DataLoader."""

import tempfile
import time
from pathlib import Path

import line


def _converted(LeRobotDataset, data, tasks, cameras, folder):
    """Pictures and an empty state; what there is to decode is what counts."""
    import numpy as np
    from PIL import Image

    episodes = sorted((Path(data) / "train" / tasks[0] / "all_variations" / "episodes").glob("episode*"))
    size = Image.open(episodes[0] / f"{cameras[0]}_rgb" / "0.png").size
    image = {"dtype": "image", "shape": (size[1], size[0], 3), "names": ["height", "width", "channels"]}
    features = {f"observation.images.{camera}": image for camera in cameras}
    features["action"] = {"dtype": "float32", "shape": (8,), "names": None}
    dataset = LeRobotDataset.create("local/measured", fps=20, features=features, root=folder, use_videos=False)
    for episode in episodes:
        for step in range(len(list((episode / f"{cameras[0]}_rgb").glob("*.png")))):
            frame = {"action": np.zeros(8, np.float32), "task": "close the jar"}
            for camera in cameras:
                frame[f"observation.images.{camera}"] = np.asarray(
                    Image.open(episode / f"{camera}_rgb" / f"{step}.png")
                )
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()


def loader(data, tasks, cameras, batch, batches, workers=2):
    import lerobot
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from torch.utils.data import DataLoader

    folder = Path(tempfile.mkdtemp()) / "set"
    _converted(LeRobotDataset, data, tasks, cameras, folder)
    dataset = LeRobotDataset("local/measured", root=folder)

    def run():
        loaded = iter(DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers))
        next(loaded)
        start = time.perf_counter()
        for _ in range(batches):
            next(loaded)
        return time.perf_counter() - start

    return run, {"lerobot": lerobot.__version__, "workers": workers}


line.serve({"loader": loader})
