"""One episode: its path, its film, the attention over it."""

import numpy as np
import pytest

from drifting_vla_jax.figures import attention, trajectory_3d, trajectory_video
from drifting_vla_jax.figures.style import NothingToDrawError
from tests.figures.fake import fake_snapshot


def episode(s):
    return s.episode_chunks, s.episode_wanted, s.episode_mask, s.episode_position, s.episode_steps


def test_the_path_is_one_episode_s_in_centimetres(snapshot):
    axes = trajectory_3d.trajectory(*episode(snapshot), snapshot.episode_task).axes[0]
    expert, fans, asked = (np.transpose(line.get_data_3d()) for line in axes.lines)
    np.testing.assert_allclose(expert, 100 * snapshot.episode_position)
    moments = [0, 2, 4, 7, 9, 11]
    np.testing.assert_allclose(asked, expert[moments])
    answers = fans.reshape(6, 8, 10, 3)  # moments, samples, start + 8 steps + pen up
    np.testing.assert_allclose(answers[:, :, 0], np.repeat(asked[:, None], 8, axis=1))
    np.testing.assert_allclose(answers[0, :, 1:9], 100 * snapshot.episode_chunks[0, :, :, :3])
    assert np.isnan(answers[-1, :, 2:]).all()  # past the episode's end


def test_a_centimetre_is_as_long_in_every_direction(snapshot):
    axes = trajectory_3d.trajectory(*episode(snapshot), snapshot.episode_task).axes[0]
    ranges = np.ptp([axes.get_xlim(), axes.get_ylim(), axes.get_zlim()], axis=1)
    np.testing.assert_allclose(ranges / axes._box_aspect, (ranges / axes._box_aspect)[0])


def filmed(s):
    about = s.cameras, s.instruction, s.control_hz
    return list(trajectory_video.trajectory_frames(s.frames, *episode(s), *about))


@pytest.mark.parametrize("views", [1, 3])
def test_a_frame_per_time_step_of_one_even_size(views):
    s = fake_snapshot(n=3, v=views)
    frames = filmed(s)
    assert len(frames) == 3
    assert {(frame.shape, frame.dtype) for frame in frames} == {((720, 1280, 3), np.dtype(np.uint8))}
    assert all(size % 2 == 0 for size in trajectory_video.SIZE)
    assert not np.array_equal(frames[0], frames[1])


def test_the_camera_is_shown_and_nothing_of_the_last_frame_stays():
    red, blue = np.zeros((2, 1, 1, 8, 8, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    s = fake_snapshot(n=3, v=1, frames=np.concatenate([red, blue, red]))
    first, second, _ = filmed(s)
    assert first[300, 300].tolist() == [255, 0, 0] and second[300, 300].tolist() == [0, 0, 255]
    arrays = ("chunks", "wanted", "mask", "position", "steps")
    stays = {f"episode_{name}": np.repeat(getattr(s, f"episode_{name}")[:1], 3, axis=0) for name in arrays}
    still = fake_snapshot(n=3, v=1, frames=np.concatenate([red] * 3), **stays)
    one, two, three = filmed(still)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, three)


def test_attention_is_over_its_own_view_and_its_share_is_stated(snapshot):
    heat = np.zeros((12, 2, 4, 4))
    heat[:, 1, 2, 3] = 0.75
    arguments = (snapshot.episode_steps, snapshot.cameras, snapshot.instruction)
    axes = attention.attention_maps(snapshot.frames, heat, *arguments).axes
    shares = [panel.get_xlabel() for panel in axes[:10]]
    assert shares == ["0% of attention"] * 5 + ["75% of attention"] * 5
    assert axes[5].get_ylabel() == "wrist" and axes[0].get_title(loc="left") == "control step 0"
    shown = axes[5].images[1].get_array()
    assert np.unravel_index(np.argmax(shown), shown.shape) == (2, 3)
    with pytest.raises(NothingToDrawError, match="no attention"):
        attention.attention_maps(snapshot.frames, heat[:, :0], *arguments)
