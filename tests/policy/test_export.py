"""An exported policy answers as the checkpoint does, in a process that has not got the network's code."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.policy import artifact
from drifting_vla_jax.policy.artifact import ArtefactError
from drifting_vla_jax.policy.export import export
from drifting_vla_jax.policy.restore import RestoredPolicy, make_policy
from drifting_vla_jax.train.checkpoint import Assets
from drifting_vla_jax.wire.client import PolicyClient
from tests.small import CAMERAS, SIZE, random_params, small_config, small_encoders, with_encoders

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
for name in ("models.vla", "models.layers", "models.dit", "models.encoders", "models.pretrained", "train", "objectives"):
    sys.modules[f"drifting_vla_jax.{name}"] = None  # an import of it, or of anything in it, fails
from drifting_vla_jax import main
main.start()
"""


def trained(config) -> RestoredPolicy:
    """Weights that were never trained, with statistics of actions that were never carried out."""
    rng = np.random.default_rng(0)
    quaternions = rng.standard_normal((40, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    actions = np.concatenate([rng.uniform(-1, 1, (40, 3)), quaternions, np.zeros((40, 1))], axis=1)  # a still gripper
    rows, last = np.arange(40), np.full(40, 39)
    space = ActionNormalizer.fit(rng.uniform(-1, 1, (40, 4)), actions, rows, last, config.action.horizon, "relative")
    assets = Assets(config, space, ("reach red", "reach blue"), 20.0, tuple("xyzg"), {})
    return RestoredPolicy(assets, random_params(config), 7, weights="abc")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Both kinds of encoders: {kind: (what was exported, where it is, the chunks it is to answer)}."""
    out, made = tmp_path_factory.mktemp("exported"), {}
    pretrained = with_encoders(small_config(), small_encoders(tmp_path_factory.mktemp("encoders")))
    for kind, config in (("scratch", small_config()), ("pretrained", pretrained)):
        what = trained(config)
        folder = export(what, out / kind, ("cpu", "cuda", "tpu"), num_samples=3, choose="nearest_mean")
        policy = make_policy(what, (2,), num_samples=3, choose="nearest_mean")
        made[kind] = what, folder, policy.infer([observation(0), observation(1)])
    shutil.rmtree(pretrained.model.text.name)  # the artifact has its own
    return made


def observation(index: int) -> dict:
    rng = np.random.default_rng(index)
    return {
        "images": {camera: rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for camera in CAMERAS},
        "state": rng.uniform(0, 0.5, 4).astype(np.float32),
        "prompt": ("go to the red ball", "reach blue")[index],
        "seed": index,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scratch", "pretrained"])
def test_it_serves_without_the_networks_code(exported, kind, tmp_path):
    """Through the command line and the socket; models, train and objectives cannot be imported there."""
    _, folder, expected = exported[kind]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    flags = ("--config=configs/quickstart.py", "--mode=serve", f"--workdir={folder}", f"--config.serve.port={port}")
    command = [sys.executable, "-c", SERVE, *flags, "--config.serve.batch_sizes=(1,)"]
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
        )
        try:
            with PolicyClient(f"ws://127.0.0.1:{port}", wait=90) as client:
                answers = np.stack([client.infer(observation(i))["actions"] for i in range(2)])
                assert client.metadata["num_samples"] == 3 and client.metadata["checkpoint_step"] == 7
        finally:
            process.terminate()
            process.wait(30)
        log.seek(0)
        assert process.returncode == 0, log.read()
    np.testing.assert_allclose(answers, expected, atol=1e-5)


@pytest.mark.slow
def test_any_batch_size_is_served(exported):
    for what, folder, expected in exported.values():
        policy = artifact.load(folder, batch_sizes=(1, 3))
        np.testing.assert_allclose(policy.infer([observation(0), observation(1)]), expected, atol=1e-5)
        np.testing.assert_allclose(policy.infer([observation(1)])[0], expected[1], atol=1e-5)
        assert policy.metadata == what.metadata(3, "nearest_mean")
        with pytest.raises(ValueError, match=r"state is float32 \[5\]; expected float32 \[4\]"):
            policy.check({**observation(0), "state": np.zeros(5, np.float32)})


@pytest.mark.slow
def test_weights_are_readable_by_others(exported):
    what, folder, _ = exported["pretrained"]
    weights = load_file(folder / "weights.safetensors")
    kernel = what.params["dit"]["block_0"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(weights["dit/block_0/attention/query/kernel"], kernel)
    assert {path.split("/")[0] for path in weights} >= {"vision", "text", "fusion", "dit", "decoder"}
    about = json.loads((folder / "artefact.json").read_text())
    assert set(about["files"]) >= {"weights.safetensors", "act.bin", "encode_text.bin", "tokenizer/vocab.json"}
    assert about["versions"].keys() == {"drifting_vla_jax", "jax", "jaxlib"}


@pytest.mark.slow
def test_what_cannot_be_served_is_refused_in_one_line(exported, tmp_path, monkeypatch):
    def refused(change, match):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(exported["scratch"][1], folder)
        change(folder)
        with pytest.raises(ArtefactError, match=match) as caught:
            artifact.load(folder)
        assert "\n" not in str(caught.value)

    def about(**changes):
        def change(folder):
            path = folder / "artefact.json"
            told = json.loads(path.read_text()) | changes
            path.write_text(json.dumps(told | {"hash": artifact.own_hash(told)}))

        return change

    def damage(name, at):
        def change(folder):
            data = bytearray((folder / name).read_bytes())
            data[at] ^= 1
            (folder / name).write_bytes(data)

        return change

    refused(shutil.rmtree, "holds no exported policy")
    refused(lambda folder: (folder / "artefact.json").write_text("{"), "artefact.json is damaged")
    refused(lambda folder: (folder / "artefact.json").write_text("{}"), "describes no drifting_vla_jax policy")
    refused(about(version=2), "is version 2 of the format, this code reads 1; export it again")
    refused(about(platforms=["tpu"]), "exported for tpu; this process computes on cpu: .* --platforms=cpu")
    refused(damage("weights.safetensors", -1), "weights.safetensors is missing or damaged")
    refused(damage("act.bin", 100), "act.bin is missing or damaged")
    refused(lambda folder: (folder / "act.bin").unlink(), "act.bin is missing or damaged")

    def edited(folder):
        path = folder / "artefact.json"
        path.write_text(path.read_text().replace('"relative"', '"absolute"'))

    refused(edited, "artefact.json is damaged: its hash is not the one it names")

    def foreign(folder):
        (folder / "act.bin").write_bytes(b"of another JAX")
        about(files={"act.bin": artifact.file_hash(folder / "act.bin")})(folder)

    refused(foreign, r"act.bin was exported with JAX [\d.]+; [\d.]+ does not read it")


def test_where_and_for_what_to_export(tmp_path):
    with pytest.raises(ValueError, match="--platforms=gpu: expected some of cpu, cuda, rocm, tpu"):
        export(trained(small_config()), tmp_path / "new", ("gpu",))
    with pytest.raises(ValueError, match="exists; choose another --out"):
        export(trained(small_config()), tmp_path, ("cpu",))
