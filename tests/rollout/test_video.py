"""Videos: what a browser needs, complete or absent, and the right number of frames."""

import imageio_ffmpeg
import numpy as np
import pytest

from drifting_vla_jax.rollout.video import Film, VideoWriter, caption, draw_plan


def frames_of(path) -> tuple[dict, list[np.ndarray]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    return about, [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]


class Scene:
    """A simulator whose n-th picture is of brightness 20 n."""

    control_hz = 40.0

    def __init__(self):
        self.rendered = 0

    def project(self, camera, points):
        return np.full((len(points), 2), 0.5)

    def render(self, camera, size):
        self.rendered += 1
        return np.full((size, size, 3), 20 * self.rendered, np.uint8)


def test_a_video_is_h264_yuv420p_and_its_frames_come_back(tmp_path):
    path = tmp_path / "videos" / "a.mp4"
    writer = VideoWriter(path, fps=10)
    for brightness in (0, 100, 200):
        writer.add(np.full((64, 48, 3), brightness, np.uint8))
    assert not path.exists()
    writer.close()
    about, frames = frames_of(path)
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p") and about["fps"] == 10
    assert [int(frame.mean()) for frame in frames] == pytest.approx([0, 100, 200], abs=4)
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays before it is loaded
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="47 x 64; yuv420p needs even sizes"):
        VideoWriter(tmp_path / "a.mp4", fps=10).add(np.zeros((64, 47, 3), np.uint8))


def test_a_film_is_in_real_time_and_holds_its_last_picture(tmp_path):
    scene = Scene()
    with Film(scene, tmp_path / "a.mp4", camera="front", size=32) as film:
        for _ in range(6):
            film.shoot("open", "step", "acting", "open")
        film.finish("open", "step", "success", "good", fresh=True)
    about, frames = frames_of(tmp_path / "a.mp4")
    assert about["fps"] == 20  # every second step of 40 Hz
    assert [round(frame[:32].mean()) for frame in frames] == pytest.approx([20, 40, 60] + [80] * 20, abs=4)


def test_a_film_that_breaks_off_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), Film(Scene(), tmp_path / "a.mp4", camera="front", size=32) as film:
        film.shoot("open", "step", "acting", "open")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_no_picture_is_asked_of_a_simulator_that_failed(tmp_path):
    scene = Scene()
    with Film(scene, tmp_path / "a.mp4", camera="front", size=32) as film:
        film.shoot("open", "step", "acting", "open")
        film.finish("open", "step", "path", "bad", fresh=False)
    assert scene.rendered == 1


def test_a_caption_leaves_the_picture_alone_and_says_something():
    picture = np.random.default_rng(0).integers(0, 255, (65, 201, 3), np.uint8)
    texts = {"title": "open the drawer and then " * 9, "detail": "drawer-open", "state": "held 3 of 10"}
    frame = caption(picture, **texts, mood="good")
    np.testing.assert_array_equal(frame[:65, :201], picture)
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0 and frame.shape[1] == 202
    strip = frame[66:].astype(int)
    assert ((strip - strip[-1, -1]) ** 2).sum(-1).max() > 10_000  # there is text in it
    assert np.abs(strip - caption(picture, **texts, mood="bad")[66:]).max() > 50  # and its colour has a meaning


def test_a_plan_is_drawn_where_its_actions_are():
    black = np.zeros((160, 160, 3), np.uint8)
    pixels = np.array([[20.0, 30.0], [80.0, 30.0], [80.0, 100.0], [np.nan, np.nan]])
    drawn = draw_plan(black, pixels, done=1)
    assert not black.any()
    assert drawn[30, 20].tolist() == [150, 150, 150]  # carried out
    assert drawn[30, 80].tolist() == drawn[100, 80].tolist() == drawn[65, 80].tolist() == [255, 196, 61]
    assert not drawn[120:].any()


def test_a_film_shows_the_chunk_that_is_executed(tmp_path):
    scene = Scene()
    with Film(scene, tmp_path / "a.mp4", camera="front", size=64) as film:
        film.plan(np.zeros((3, 8)))
        film.shoot("open", "step", "acting", "open")
        film.finish("open", "step", "success", "good", fresh=True)
    _, frames = frames_of(tmp_path / "a.mp4")
    assert (
        frames[0][31:34, 31:34, 0].max() > 100 > frames[0][10, 10, 0]
    )  # in the middle, where the scene says the points are
