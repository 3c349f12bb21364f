"""Programs for hardware that is not there: what is read off a compiled program, and one small network for a TPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from drifting_vla_jax.aot import topology
from drifting_vla_jax.aot.compile import Compiled, DoesNotFitError, check_fits, compile_policy, compile_step
from drifting_vla_jax.aot.flops import flops
from drifting_vla_jax.aot.hlo import Program
from drifting_vla_jax.aot.topology import GIB, Topology
from drifting_vla_jax.train.sharding import make_mesh, single_device_mesh
from tests.small import small_config

ROOT = Path(__file__).parents[2]

# A loop of three rounds inside one of five, as a TPU's compiler writes it; in each round a product and two collectives.
LOOPS = """
HloModule jit_f, is_scheduled=true

%all-reduce-scatter.1 (x: f32[64,32]) -> f32[16,32] {
  %x = f32[64,32]{1,0:T(8,128)} parameter(0)
  %all-reduce.2 = f32[64,32]{1,0:T(8,128)} all-reduce(%x), channel_id=7, replica_groups=[4,4]<=[16], to_apply=%add
  ROOT %slice = f32[16,32]{1,0:T(8,128)} dynamic-slice(%all-reduce.2, %zero), dynamic_slice_sizes={16,32}
}

%inner_condition (state: (s32[], f32[64,32])) -> pred[] {
  %three = s32[]{:T(128)} constant(3)
  %state = (s32[]{:T(128)}, f32[64,32]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %less = pred[]{:T(512)} compare(%i, %three), direction=LT
}

%inner (state: (s32[], f32[64,32])) -> (s32[], f32[64,32]) {
  %state.1 = (s32[]{:T(128)}, f32[64,32]{1,0}) parameter(0)
  %a = f32[64,32]{1,0} get-tuple-element(%state.1), index=1
  %part = bf16[8,32]{1,0} slice(%a), slice={[0:8], [0:32]}
  %all-gather-start.1 = (bf16[8,32]{1,0}, bf16[32,32]{1,0}) all-gather-start(%part), channel_id=1, dimensions={0}
  %all-gather-done.1 = bf16[32,32]{1,0} all-gather-done(%all-gather-start.1)
  %product = f32[64,32]{1,0} convolution(%a, %all-gather-done.1), dim_labels=bf_io->bf
  %scattered = f32[16,32]{1,0} fusion(%product), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %next = (s32[]{:T(128)}, f32[64,32]{1,0}) tuple(%i.1, %product)
}

%outer (state: (s32[], f32[64,32])) -> (s32[], f32[64,32]) {
  %state.2 = (s32[]{:T(128)}, f32[64,32]{1,0}) parameter(0)
  ROOT %done = (s32[]{:T(128)}, f32[64,32]{1,0}) while(%state.2), condition=%inner_condition, body=%inner
}

%piece.1 (y: f32[64,32]) -> (f32[10], s32[2]) {
  %y.1 = f32[64,32]{1,0} parameter(0)
  ROOT %all-to-all.1 = (f32[10]{0}, s32[2]{0}) all-to-all(%y.1), channel_id=9, replica_groups={{0,1},{2,3}}
}

%piece.2 (y: f32[64,32]) -> (f32[10], s32[2]) {
  %y.2 = f32[64,32]{1,0} parameter(0)
  ROOT %all-to-all.2 = (f32[10]{0}, s32[2]{0}) all-to-all(%y.2), channel_id=9, replica_groups={{0,1},{2,3}}
}

ENTRY %main (p: f32[64,32]) -> f32[64,32] {
  %p = f32[64,32]{1,0} parameter(0)
  %loop = (s32[], f32[64,32]{1,0}) while(%p), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  %first = (f32[10]{0}, s32[2]{0}) fusion(%p), kind=kCustom, calls=%piece.1
  %second = (f32[10]{0}, s32[2]{0}) fusion(%p), kind=kCustom, calls=%piece.2
  %whole.1 = f32[64,32]{1,0} all-reduce(%p), channel_id=7, replica_groups={{0,1},{2,3}}, to_apply=%add
  %whole.2 = f32[64,32]{1,0} all-reduce(%p), channel_id=7, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %out = f32[64,32]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    assert Program(LOOPS).flops() == 15 * 2 * 64 * 32 * 32


def test_collectives_by_kind_however_they_are_written():
    """Of a pair (start, done) the result, of a scattered sum the whole, of pieces under one channel one."""
    assert Program(LOOPS).collectives() == {
        "all-gather": 15 * 32 * 32 * 2,
        "reduce-scatter": 15 * 64 * 32 * 4,
        "all-to-all": 64 * 32 * 4,
        "all-reduce": 2 * 64 * 32 * 4,
    }


def test_a_loop_of_unknown_length_is_an_error():
    with pytest.raises(ValueError, match="does not say how often it runs"):
        Program(LOOPS.replace("constant(3)", "add(%x, %y)"))


def product(window: str, labels: str, image: str, kernel: str, result: str) -> int:
    """Operations of one convolution."""
    lines = [f"  %a = {image} parameter(0)", f"  %b = {kernel} parameter(1)"]
    last = f"  ROOT %c = {result} convolution(%a, %b), window={{{window}}}, dim_labels={labels}"
    return Program("\n".join(["ENTRY %main (a: f32[]) -> f32[] {", *lines, last, "}"])).flops()


def test_convolutions_count_products_with_elements_that_exist():
    """A kernel of three over five pixels: without padding three places, with it five, two of them at the border."""
    assert product("size=3", "b0f_0io->b0f", "f32[1,5,1]", "f32[3,1,1]", "f32[1,3,1]") == 2 * 9
    assert product("size=3 pad=1_1", "b0f_0io->b0f", "f32[1,5,1]", "f32[3,1,1]", "f32[1,5,1]") == 2 * 13


def test_a_tpu_writes_a_batch_of_products_as_a_dilated_convolution():
    """Eight products [4 16] x [16 2]: the window is made so that image k meets kernel k alone."""
    shapes = ("f32[8,4,16]", "f32[8,16,2]", "f32[8,4,2]")
    assert product("size=8 stride=7 lhs_dilate=8", "0bf_0io->0bf", *shapes) == 2 * 8 * 4 * 16 * 2


def test_a_gpu_calls_libraries():
    product = (
        "ENTRY %main (a: bf16[4,8,16]) -> f32[] {\n"
        "  %a = bf16[4,8,16]{2,1,0} parameter(0)\n"
        "  %b = bf16[4,32,16]{2,1,0} parameter(1)\n"
        '  %c = (bf16[4,8,32]{2,1,0}, s8[99]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul", '
        'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"]}}}\n'
        "  %q = bf16[2,64,3,8]{3,2,1,0} parameter(2)\n"
        "  %k = bf16[2,16,3,8]{3,2,1,0} parameter(3)\n"
        '  %f = bf16[2,3,64,8]{3,1,2,0} custom-call(%q, %k, %k), custom_call_target="__cudnn$fmhaSoftmax"\n'
        '  %g = bf16[2,3,64,8]{3,1,2,0} custom-call(%q, %k, %k), custom_call_target="__cudnn$fmhaSoftmaxBackward"\n'
        "}"
    )
    assert Program(product).flops() == 2 * 4 * 8 * 32 * 16 + (2 + 5) * 2 * 2 * 3 * 64 * 16 * 8


def test_a_compiled_program_does_what_was_written():
    """Three layers of [64 32] x [32 32], weights split over eight devices and gathered one layer at a time."""
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))

    def on(*axes):
        return NamedSharding(mesh, P(*axes))

    def layers(x, weights):
        def layer(x, w):
            return jax.lax.with_sharding_constraint(jnp.tanh(x @ w), on("fsdp")), None

        return jax.lax.scan(layer, x, weights)[0]

    function = jax.jit(layers, in_shardings=(on("fsdp"), on(None, "fsdp")), out_shardings=on("fsdp"))
    shapes = jax.ShapeDtypeStruct((64, 32), jnp.float32), jax.ShapeDtypeStruct((3, 32, 32), jnp.float32)
    program = Program(function.lower(*shapes).compile().as_text())
    assert program.flops() == flops(layers, *shapes) / 8 == 3 * 2 * 64 * 32 * 32 / 8
    assert program.collectives() == {"all-gather": 3 * 32 * 32 * 4}


@pytest.mark.slow
def test_step_and_policy_of_the_small_network():
    """On the CPU's eight virtual devices: what each does adds up to what was written."""
    config = small_config()
    step = compile_step(config, make_mesh(config))
    assert step.observations == 1 and step.peak > step.arguments > 0
    assert step.flops == pytest.approx(step.traced, rel=0.1)  # XLA writes thin products as sums
    assert "all-reduce" in step.collectives and "all-to-all" not in step.collectives
    policy = compile_policy(config, single_device_mesh())
    assert policy.observations == 4 and policy.collectives == {}
    assert policy.flops == pytest.approx(policy.traced, rel=0.1)


def test_what_does_not_fit_is_an_error():
    program = Compiled("train step", 64, 0, 0, 16 * GIB, 0, 0.0, {}, 1.0)
    check_fits(program, Topology("v6e", "4x4"))
    with pytest.raises(DoesNotFitError, match=r"64 observations it needs 16.00 GiB on each device, v5e has 15.75"):
        check_fits(program, Topology("v5e", "4x4"))


def test_a_gpu_program_may_use_the_share_that_jax_takes(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert Topology("h100", "1x1x8").memory == 0.75 * 79.1 * GIB
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    assert Topology("h100", "1x1x8").memory == 0.9 * 79.1 * GIB


def test_names_of_topologies():
    assert topology.parse("v5e:16x16") == Topology("v5e", "16x16")
    assert topology.parse("h100:4") == Topology("h100", "1x1x4")
    assert topology.parse("h100:128") == Topology("h100", "1x16x8")


@pytest.mark.parametrize("name", ["v5e", "v5e:16", "v9:4x4", "h100:12", "h100:0", "h100:4x4", "cpu:8"])
def test_an_unknown_topology_lists_those_there_are(name):
    with pytest.raises(ValueError, match=f"unknown --topology='{name}'; known are v5e:4x4, .*h100:8"):
        topology.parse(name)


@pytest.mark.parametrize(("name", "extra"), [("v5e:4x4", "aot"), ("h100:8", "cuda")])
def test_a_missing_compiler_says_how_to_install_it(name, extra, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"is not installed; .* pip install '.\[{extra}\]'"):
        topology.prepare(topology.parse(name))


def compile_on(topology: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "drifting_vla_jax.main", "--config=configs/quickstart.py", "--mode=compile"]
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment["JAX_OPTIMIZATION_LEVEL"] = "O1"  # compiles in half the time
    return subprocess.run(
        [*command, topology, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_bad_names_are_one_line():
    done = compile_on("--topology=v5e:17")
    assert done.returncode != 0 and done.stderr.startswith("error: unknown --topology='v5e:17'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install '.[aot]'")
def test_the_quickstart_compiles_for_a_tpu():
    """Four chips that are not here; the parameters are split over them, the batch too."""
    split = ("--config.mesh.fsdp=4", "--config.mesh.fsdp_min_size=1024", "--config.data.batch_size=16")
    thin = [f"--config.model.{part}.depth=1" for part in ("vision", "fusion", "dit")]
    done = compile_on("--topology=v5e:2x2", *split, *thin)
    assert done.returncode == 0 and done.stderr == ""
    rows = {line[:30].strip(): line[30:].split() for line in done.stdout.splitlines()[2:]}
    assert done.stdout.startswith("quickstart on v5e:2x2: 4 x TPU v5 lite, mesh 1 data x 4 fsdp x 1 tensor")
    compiled, written = (float(rows[f"matrix products, as {how}"][0]) for how in ("compiled", "written"))
    assert compiled == pytest.approx(written, rel=0.05)
    assert float(rows["all-gather"][0]) > 0 and "all-to-all" not in rows
