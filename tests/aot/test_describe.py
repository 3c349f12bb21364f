"""``--mode=describe`` on the small configuration: width 16, two views, chunks of 4 steps, on eight virtual devices."""

import re

import jax
import pytest

from configs import dit_b2
from drifting_vla_jax.aot.describe import describe
from tests.small import small_config

pytestmark = pytest.mark.slow  # seconds to trace a training step
UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def rows(config) -> dict[str, list[str]]:
    """First cell of each line -> the others; of two lines the upper one."""
    lines = describe(config).splitlines()
    assert max(map(len, lines)) <= 100
    return {first: others for first, *others in (re.split(r"\s{2,}", line) for line in reversed(lines))}


def number(cell: str) -> float:
    """ "1.5 kB" -> 1500.0, "1,024" -> 1024.0"""
    value, prefix = re.fullmatch(r"([\d.,]+) ?([kMGT]?)(?:B|FLOP)?", cell).groups()
    return float(value.replace(",", "")) * UNITS[prefix]


def counts(table, part) -> list[float]:
    """Parameters, trainable, frozen."""
    return [number(cell) for cell in table[part]]


def pretrained_config():
    """The small network behind frozen DINOv2-S (22 million parameters) and CLIP-B text (63 million)."""
    config = small_config()
    config.model.vision.name, config.model.vision.image_size = "facebook/dinov2-small", 14
    config.model.text.name = "openai/clip-vit-base-patch16"
    config.model.frozen_dtype = "bfloat16"
    config.train.freeze = ("vision", "text")
    return config


@pytest.fixture(scope="module")
def table():
    return rows(small_config())


def test_parameters_by_module(table):
    assert counts(table, "view_embedding") == [2 * 16, 2 * 16, 0]
    assert counts(table, "condition_state") == [4 * 16 + 16, 4 * 16 + 16, 0]
    assert counts(table, "decoder")[0] == 16 * 16 + 16 + 16 * 10 + 10
    parts = [n for n in table if n.isidentifier() and len(table[n]) == 3 and n != "total"]
    assert counts(table, "total")[0] == sum(counts(table, part)[0] for part in parts)


def test_what_is_frozen_does_not_learn(table):
    config = small_config()
    config.train.freeze = ("vision",)
    frozen, size = rows(config), counts(table, "vision")[0]
    assert counts(frozen, "vision") == [size, 0, size]
    assert counts(frozen, "total") == [counts(table, "total")[0], counts(table, "total")[0] - size, size]
    assert frozen["vision/norm/scale"][-1] == "frozen"
    assert number(frozen["gradients"][0]) == pytest.approx(4 * (counts(table, "total")[0] - size), rel=1e-3)
    assert number(frozen["training step"][0]) < number(table["training step"][0])


def test_memory_adds_up(table):
    """Four bytes for each parameter, four for its average, eight for the optimiser's moments, four for its gradient."""
    total = 4 * counts(table, "total")[0]
    sizes = [number(table[part][0]) for part in ("parameters", "their average", "optimiser", "gradients")]
    assert sizes == pytest.approx([total, total, 2 * total, total], rel=1e-3)
    observation = 2 * 16 * 16 * 3 + 4 * 4 + 4  # images, state, which instruction
    rest = 2 * 4 * 4 * 10 + 4 + 4 * 32 + 2 * 4 * 4  # target and mask, task, tokens, augmentation: four numbers a view
    assert number(table["batches"][0]) == 3 * (observation + rest)  # of 8 observations each device has one
    everything = sum(sizes) + number(table["batches"][0]) + number(table["activations"][0])
    assert number(table["together"][0]) == pytest.approx(everything, rel=1e-3)


def test_computing_again_costs_operations_and_saves_memory(table):
    config = small_config()
    config.model.remat = "full"
    again = rows(config)
    assert number(again["activations"][0]) < 0.8 * number(table["activations"][0])
    assert number(again["training step"][0]) > 1.05 * number(table["training step"][0])
    assert again["policy call"] == table["policy call"]
    parts = number(table["image encoder"][0]) + number(table["the rest"][0])
    assert number(table["policy call"][0]) == pytest.approx(parts, rel=1e-3)


def test_every_network_evaluation_counts(table):
    """Drifting needs one evaluation; each step of a flow is one more of the same network."""
    config, cost = small_config(), {1: number(table["the rest"][0])}
    assert table["the rest"][1] == "per chunk, 1 network evaluation(s)"
    config.objective.name, flow_matching = "flow_matching", config.objective.flow_matching
    for flow_matching.steps in (2, 3):
        flow = rows(config)
        assert flow["the rest"][1] == f"per chunk, {flow_matching.steps} network evaluation(s)"
        cost[flow_matching.steps] = number(flow["the rest"][0])
    assert cost[3] - cost[2] == pytest.approx(cost[2] - cost[1], rel=0.01)
    assert flow["image encoder"] == table["image encoder"]


def test_layouts(table):
    assert table["observation"] == ["2 views (front, side) of 16 x 16 px, RGB"]
    assert table["context"] == [f"{2 * 4 + 32 + 1} tokens of width 16"]  # patches of 8 px, instruction, state
    assert table["chunk, network"][0].startswith("4 x 10: x y z (from the present end effector)")
    assert table["chunk, boundary"][0].startswith("4 x 8: x y z (m, world), qx qy qz qw, gripper")
    assert table["mesh"] == ["data 8 x fsdp 1 x tensor 1, cpu"]


def test_every_parameter_and_where_it_lies(table):
    assert table["decoder/hidden/kernel"] == ["16x16", "float32", "copied", "1.024 kB", "learned"]
    config = small_config()
    config.mesh.fsdp, config.mesh.fsdp_min_size = 4, 256
    split = rows(config)
    assert split["mesh"] == ["data 2 x fsdp 4 x tensor 1, cpu"]
    assert split["decoder/hidden/kernel"] == ["16x16", "float32", "(fsdp, -)", "256 B", "learned"]
    assert split["decoder/hidden/bias"] == ["16", "float32", "copied", "64 B", "learned"]
    listed = sum(number(cells[-2]) for cells in split.values() if cells[-1:] == ["learned"])
    listed += 4 * 16 * (4 + 2)  # step and view embedding: modules of one parameter each, above under the same name
    assert listed == pytest.approx(number(split["parameters"][0]), rel=1e-3)


def test_pretrained_encoders_stand_beside_the_state(table):
    config = pretrained_config()
    beside = rows(config)
    vision, text = counts(beside, "vision"), counts(beside, "text")
    assert vision[1] == text[1] == 0
    assert beside["vision/tower/blocks/query/kernel"] == ["12x384x384", "bfloat16", "copied", "3.539 MB", "frozen"]
    assert number(beside["borrowed weights"][0]) == pytest.approx(2 * vision[0], rel=1e-3)  # a bfloat16 has two bytes
    assert number(beside["parameters"][0]) == pytest.approx(4 * counts(beside, "total")[1], rel=1e-3)
    assert beside["text/norm/scale"] == ["512", "absent", "frozen"]  # the data set's instructions are encoded once
    instruction = 32 * 512 * 4 + 512 * 4 + 32  # words, summary, mask
    assert number(beside["borrowed text"][0]) == pytest.approx(8 * instruction, rel=1e-3)
    config.model.vision.lora = 2
    adapted = rows(config)
    assert adapted["vision/tower/blocks/query/lora_up"] == ["12x2x384", "float32", "copied", "36.86 kB", "learned"]
    assert counts(adapted, "vision")[1] == 12 * 2 * (4 * 2 * 384 + 2 * (384 + 1536))


def test_stored_features_take_the_encoder_out_of_the_training_step():
    """A class token and one patch of 14 px per view, 384 numbers of two bytes each."""
    config = pretrained_config()
    looks = rows(config)
    config.data.features, config.data.shift, config.data.brightness, config.data.contrast = True, 0, 0.0, 0.0
    reads = rows(config)
    assert reads["vision/norm/scale"] == ["384", "absent", "frozen"] and "borrowed weights" not in reads
    assert reads["policy call"] == looks["policy call"]
    saved = number(looks["training step"][0]) - number(reads["training step"][0])
    assert saved == pytest.approx(8 * number(looks["image encoder"][0]), rel=1e-2)
    images, features = 2 * 16 * 16 * 3 + 2 * 4 * 4, 2 * 2 * 384 * 2  # augmentation is of images alone
    assert number(reads["batches"][0]) - number(looks["batches"][0]) == pytest.approx(3 * (features - images), abs=10)


def test_the_full_network_is_described_without_allocating_it():
    """Of DINOv2-L by hand: 24 layers, 257 tokens, width 1024: 12 d^2 weights and 2 n d of attention per token."""
    before = sum(x.nbytes for x in jax.live_arrays())
    full = rows(dit_b2.get_config())
    assert sum(x.nbytes for x in jax.live_arrays()) - before < 1e6
    one_image = 2 * 257 * 24 * (12 * 1024**2 + 2 * 257 * 1024) + 2 * 256 * 588 * 1024
    assert number(full["image encoder"][0]) == pytest.approx(2 * one_image, rel=0.01)
    assert counts(full, "vision")[0] == pytest.approx(24 * 12 * 1024**2, rel=0.01)
