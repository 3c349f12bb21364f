"""Whatever one client sends, the others of its batch get their answers: the one at fault gets one line."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.policy.policy import Network, Policy
from drifting_vla_jax.serve.batching import Batcher, InferenceError
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire import protocol
from drifting_vla_jax.wire.client import PolicyClient, PolicyServerError

HORIZON, SIZE = 4, 8
METADATA = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
    "cameras": ["front"],
    "image_size": SIZE,
    "state_dim": 4,
    "state_names": ["x", "y", "z", "gripper"],
    "horizon": HORIZON,
    "action_dim": 8,
    "prompts": ["go"],
}
MEAN = np.tile([0, 0, 0, 1, 0, 0, 0, 1, 0, 0.5], (HORIZON, 1)).astype(float)
SPACE = ActionNormalizer("relative", MEAN, np.full((HORIZON, 10), 0.1), np.zeros(4), np.ones(4))


def act(images, state, text, seeds):
    """A network whose first move is the first pixel and whose second is the state; three pixels break it."""
    pixel = images[:, 0, 0, 0].astype(float)
    if (pixel[:, 2] == 255).any():
        raise FloatingPointError("a red pixel")
    chunk = np.zeros((len(state), HORIZON, 10), np.float32)
    chunk[:, :, 0], chunk[:, :, 1] = pixel[:, :1] / 255, state[:, 1:2]
    chunk[pixel[:, 1] == 255] = 1e9
    if (pixel[:, 1] == 254).any():
        chunk[:] = np.nan  # of everybody
    return chunk


def make_policy() -> Policy:
    network = Network(lambda tokens: np.zeros((1, 1), np.float32), act)
    return Policy(network, lambda texts: np.zeros((len(texts), 1), np.int32), SPACE, METADATA, (1, 2, 4))


def observation(value: float = 0.0, pixel=(0, 0, 0), **more) -> dict:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[0, 0] = pixel
    return {"images": {"front": image}, "state": np.full(4, value, np.float32), "prompt": "go", "seed": 3, **more}


def together(*observations) -> list:
    """What a batcher answers to requests that share one batch."""
    sizes, policy = [], make_policy()

    async def ask():
        with ThreadPoolExecutor(1) as executor:
            limits = {"max_batch": 4, "deadline_s": 5, "max_waiting": 9, "executor": executor, "on_batch": sizes.append}
            batcher = Batcher(policy.infer, **limits)
            for _ in observations:
                batcher.join()
            asked = (batcher.submit(each) for each in observations)
            return await asyncio.gather(*asked, return_exceptions=True), batcher.failures

    answers, failures = asyncio.run(ask())
    assert failures == sum(isinstance(answer, InferenceError) for answer in answers) and sum(sizes) == 3 - failures
    return answers


@pytest.mark.parametrize(
    ("pixel", "message"),
    [
        ((0, 255, 0), 'target 0 of the chunk has "x" = 1e+08'),
        ((0, 254, 0), "the policy's actions are not finite"),
        ((0, 0, 255), "FloatingPointError: a red pixel"),
    ],
)
def test_the_error_is_told_to_who_caused_it_and_the_others_are_right(pixel, message):
    first, guilty, last = together(observation(0.1), observation(0, pixel), observation(0.2))
    assert isinstance(guilty, InferenceError) and message in str(guilty) and "\n" not in str(guilty)
    policy = make_policy()
    np.testing.assert_array_equal(first.actions, policy.infer([observation(0.1)])[0])
    np.testing.assert_array_equal(last.actions, policy.infer([observation(0.2)])[0])


def test_a_policy_that_answers_nonsense_says_so_when_it_starts(caplog):
    policy = make_policy()
    policy._act = lambda images, state, text, seeds: np.full((len(state), HORIZON, 10), np.nan)
    with (
        PolicyServer(policy, port=0, batch_deadline_ms=1) as server,
        PolicyClient(f"ws://127.0.0.1:{server.port}") as c,
    ):
        assert "batch size 4, black images: the policy's actions are not finite" in caplog.text
        with pytest.raises(PolicyServerError, match="inference failed: the policy's actions are not finite") as caught:
            c.infer(observation())
        assert caught.value.kind == "inference failed"


FLOATS = st.floats(width=32) | st.sampled_from([3e30, 1e-45, -0.0, 612.0, 99.0, float("nan"), float("inf")])
ARRAYS = st.one_of(
    st.lists(FLOATS, min_size=4, max_size=4).map(lambda v: np.array(v, np.float32)),
    st.lists(FLOATS, max_size=5).map(lambda v: np.array(v, np.float64)),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4).map(np.array),
    st.sampled_from([np.zeros((4, 0)), np.float32(1), np.zeros((2, 2), np.float32, order="F"), np.ones(4, bool)]),
    st.sampled_from(
        [np.zeros(8, np.float32)[::2], np.arange(8, dtype="f4")[::-2], np.zeros(4, ">f4"), np.zeros(4, "f2")]
    ),
)
IMAGES = st.one_of(
    st.sampled_from([np.zeros((SIZE, SIZE, 3)), np.zeros((SIZE, SIZE), np.uint8), np.zeros((0, SIZE, 3), np.uint8)]),
    st.tuples(*[st.sampled_from([0, 7, 254, 255])] * 3).map(lambda p: observation(0, p)["images"]["front"]),
    st.just(np.asfortranarray(observation()["images"]["front"])),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
OBSERVATIONS = st.builds(
    lambda base, changes, less: {k: v for k, v in (base | changes).items() if k not in less},
    st.just(observation()),
    st.fixed_dictionaries(
        {},
        optional={
            "state": ARRAYS | ANYTHING,
            "images": ANYTHING | IMAGES.map(lambda image: {"front": image}) | IMAGES,
            "prompt": st.text(max_size=50) | ANYTHING,
            "seed": st.integers(-(2**63), 2**64 - 1) | st.floats() | st.booleans() | ANYTHING,
            "more": ANYTHING,
        },
    ),
    st.sets(st.sampled_from(["state", "images", "prompt", "seed"]), max_size=1),
)


@pytest.fixture(scope="module")
def clients():
    with PolicyServer(make_policy(), port=0, batch_deadline_ms=10) as server:
        uri = f"ws://127.0.0.1:{server.port}"
        with PolicyClient(uri) as good, PolicyClient(uri) as bad:
            yield good, bad


def test_beside_any_request_a_good_one_is_answered_right(clients):
    good, bad = clients
    expected = make_policy().infer([observation(0.25)])[0]

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(OBSERVATIONS | ANYTHING)
    def holds(request):
        said = []

        def ask():
            try:
                said.append(np.isfinite(bad.infer(request)["actions"]).all())
            except (PolicyServerError, protocol.ProtocolError) as error:  # refused there, or not even sent
                said.append("\n" not in str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        np.testing.assert_array_equal(good.infer(observation(0.25))["actions"], expected)
        thread.join()
        assert said == [True]

    holds()
