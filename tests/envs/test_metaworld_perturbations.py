"""What an evaluation can change of Meta-World's scenes: only what it says, by the seed, and gone with the next scene."""

import numpy as np
import pytest

from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.metaworld import perturbations as changes
from drifting_vla_jax.envs.metaworld.env import MetaWorld
from drifting_vla_jax.envs.metaworld.tasks import INSTRUCTIONS

TASK = "push-wall"


def test_unseen_words_are_for_every_task_and_in_no_demonstration():
    said = {phrase for phrases in INSTRUCTIONS.values() for phrase in phrases}
    assert set(changes.UNSEEN) == set(INSTRUCTIONS)
    assert len(set(changes.UNSEEN.values())) == 50 and not said & set(changes.UNSEEN.values())
    assert max(len(phrase.encode()) for phrase in changes.UNSEEN.values()) <= 44  # bytes, as all the others


def test_an_unknown_change_is_refused():
    with pytest.raises(ValueError, match="metaworld.change is 'rain'; expected none or words or camera"):
        registry.make("metaworld", cameras=("zoom",), image_size=32, frame_skip=4, change="rain")


@pytest.fixture(scope="module")
def scenes():
    """scenes(change, seed) -> (pictures of both views, state, instruction) of the start and after a step."""
    made = {change: MetaWorld(("top", "zoom"), 48, 4, changes.Settings(change)) for change in changes.CHANGES}

    def scenes(change, seed):
        env = made[change]
        first, said = env.reset(TASK, 0, seed)
        second = env.step(np.array([0.1, 0.7, 0.2, 0, 0.5**0.5, 0, 0.5**0.5, 1.0])).observation
        pictures = np.stack([view for o in (first, second) for view in (o.images["top"], o.images["zoom"])])
        return pictures.astype(int), np.stack([first.state, second.state]), said

    yield scenes
    for env in made.values():
        env.close()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["words", "camera", "light", "colour"])
def test_a_change_is_what_it_says_and_nothing_else(scenes, change):
    plain, state, said = scenes("none", 7)
    changed, changed_state, changed_said = scenes(change, 7)
    np.testing.assert_array_equal(changed_state, state)  # physics is the same
    difference = np.abs(changed - plain).mean((1, 2, 3))
    assert np.all(difference == 0) if change == "words" else np.all(difference > 3)
    assert (changed_said == changes.UNSEEN[TASK]) == (change == "words") == (changed_said != said)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["camera", "light", "colour"])
def test_a_change_is_a_function_of_the_seed_and_does_not_add_up(scenes, change):
    first, other = scenes(change, 7)[0], scenes(change, 8)[0]
    np.testing.assert_array_equal(scenes(change, 7)[0], first)
    assert np.abs(first - other).mean() > 1


def test_light_and_colour_reach_what_they_say():
    """Without a renderer: the arrays of a model with one light, two materials."""
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><asset>"
        + "".join(f'<material name="{name}" rgba="1 1 1 1"/>' for name in (*changes.BACKGROUND, "block"))
        + '</asset><worldbody><light diffuse=".5 .5 .5"/></worldbody></mujoco>'
    )
    changes.recolour(model, np.random.default_rng(0))
    colours = {name: model.material(name).rgba for name in (*changes.BACKGROUND, "block")}
    assert np.all(colours["block"] == 1) and all(np.ptp(colours[name][:3]) > 0.01 for name in changes.BACKGROUND)
    assert all(rgba[3] == 1 for rgba in colours.values())
    head = model.vis.headlight.diffuse.copy()
    changes.relight(model, np.random.default_rng(0))
    gain = model.light_diffuse[0] / 0.5
    np.testing.assert_allclose(model.vis.headlight.diffuse, np.clip(head * gain, 0, 1), rtol=1e-6)
    assert gain.min() >= 0.4 and gain.max() <= 1.8 and not np.allclose(gain, 1)
