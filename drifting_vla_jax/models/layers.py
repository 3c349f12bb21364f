"""The layers every tower is made of: RMSNorm, RoPE, attention with QK-norm, SwiGLU, adaLN-Zero modulation.

Linen modules over plain parameter dicts. ``dtype`` is that of activations and products; parameters stay float32, norms
and softmax run in float32.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Shaped

INIT = nn.initializers.xavier_uniform()
EMBEDDING_INIT = nn.initializers.normal(0.02)


class Dense(nn.Module):
    """x @ kernel (+ bias) over the last axis.

    All leading axes are flattened first: with a single contracted axis the weight gradient takes XLA's fast matmul on
    CPU (twice as fast as ``nn.Dense`` on [b, n, d]); on accelerators it makes no difference.

    With ``lora`` above 0 a product of two thin matrices of that rank is added to the kernel (LoRA, Hu et al., arXiv
    2106.09685, alpha = 2 rank), zero at the start; to train those alone is up to ``train.partition``.
    """

    width: int
    dtype: jnp.dtype
    use_bias: bool = True
    kernel_init: Callable = INIT
    lora: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n width"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.width))
        flat = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        y = flat @ kernel.astype(self.dtype)
        if self.lora:
            down = self.param("lora_down", INIT, (x.shape[-1], self.lora)).astype(self.dtype)
            up = self.param("lora_up", nn.initializers.zeros, (self.lora, self.width)).astype(self.dtype)
            y = y + 2 * (flat @ down) @ up
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        return y.reshape(*x.shape[:-1], self.width)


class RMSNorm(nn.Module):
    """x / rms(x) * scale, computed in float32 (Zhang & Sennrich, arXiv 1910.07467)."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        x32 = x.astype(jnp.float32)
        rms = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)
        return (x32 * rms * scale).astype(x.dtype)


def rope(x: Float[Array, "b n heads k"], positions: Float[Array, " n"]) -> Float[Array, "b n heads k"]:
    """Rotates pairs of channels by an angle that grows with the position (Su et al., arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-jnp.arange(half) / half)
    angle = positions[:, None] * frequency  # [n, k/2]
    cos, sin = jnp.cos(angle)[None, :, None], jnp.sin(angle)[None, :, None]
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x1 * sin + x2 * cos], axis=-1).astype(x.dtype)


BATCH_AXES = ("data", "fsdp")  # mesh axes over which a batch is split


def constrain_batch_sharding(x: Shaped[Array, "b *n"], over: Sequence[str] = BATCH_AXES) -> Shaped[Array, "b *n"]:
    """Says that what a layer hands on is split along the batch and nothing else, where there is a mesh to split it over."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or len(x) % math.prod(mesh.shape[axis] for axis in BATCH_AXES):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(tuple(over)))


def is_small_batch(x: Shaped[Array, "b *n d"], least: int) -> bool:
    """Whether the devices that share one copy of the parameters have fewer than ``least`` vectors in x; no mesh: no."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and math.prod(x.shape[:-1]) // mesh.shape[BATCH_AXES[0]] < least


_portable = contextvars.ContextVar("no_custom_kernels", default=False)


@contextlib.contextmanager
def no_custom_kernels() -> Iterator[None]:
    """What is traced inside runs on every platform: nobody's own kernels."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def attend(
    q: Float[Array, "b n heads k"],
    k: Float[Array, "b m heads k"],
    v: Float[Array, "b m heads k"],
    mask: Bool[Array, "b 1 1 m"] | None = None,
    causal: bool = False,
) -> Float[Array, "b n heads k"]:
    """Softmax attention by JAX's own function; on a GPU in half precision by cuDNN's fused kernel, on CPU by ``attention_cpu``.

    cuDNN takes heads of at most 128 and no mask of one's own: a mask becomes a bias, and of a bias that differs between the
    rows of a batch split over devices each device would read the first rows. Whatever it does not take XLA does, and inside
    ``no_custom_kernels`` everything.
    """
    if platform() == "cpu":
        return attention_cpu(q, k, v, mask, causal)
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    if platform() == "gpu" and half and q.shape[-1] <= 128 and mask is None and not _portable.get():
        return attention_cudnn(q, k, v, causal, "cudnn")
    return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation="xla")


def attention_cpu(
    q: Float[Array, "b n heads k"],
    k: Float[Array, "b m heads k"],
    v: Float[Array, "b m heads k"],
    mask: Bool[Array, "b 1 1 m"] | None,
    causal: bool,
) -> Float[Array, "b n heads k"]:
    """Attention as two products with a single batch axis, divided by the sum of the weights only at the end.

    That is what XLA's CPU backend has fast loops for: on 257 tokens of 16 heads half the time of JAX's own function.
    """
    (b, n, heads, width), m = q.shape, k.shape[1]
    q, k, v = (jnp.moveaxis(x, 2, 1).reshape(b * heads, -1, width) for x in (q * width**-0.5, k, v))
    logits = jnp.einsum("hnk,hmk->hnm", q, k).astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(jnp.repeat(mask[:, 0], heads, axis=0), logits, jnp.finfo(jnp.float32).min)
    if causal:
        logits = jnp.where(jnp.tril(jnp.ones((n, m), bool)), logits, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)))
    out = jnp.einsum("hnm,hmk->hnk", weights.astype(v.dtype), v) / jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.moveaxis(out.astype(v.dtype).reshape(b, heads, n, width), 1, 2)


def platform() -> str:
    """What is being compiled for: "cpu", "gpu" or "tpu", of the mesh if there is one; its devices need not be here."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.default_backend() if mesh.empty else mesh.abstract_device.platform


def attention_cudnn(
    q: Float[Array, "b n heads k"],
    k: Float[Array, "b m heads k"],
    v: Float[Array, "b m heads k"],
    causal: bool,
    implementation: str,
) -> Float[Array, "b n heads k"]:
    """Attention with odd lengths made even, as cuDNN's backward pass wants them, by a row that nobody looks at."""
    (b, n), m = q.shape[:2], k.shape[1]
    q, k, v = (jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (q, k, v))
    # A causal query does not see what comes after the last; any other is told how many keys there are.
    lengths = jnp.full((b,), m, jnp.int32) if m % 2 and not causal else None
    out = jax.nn.dot_product_attention(
        q, k, v, is_causal=causal, key_value_seq_lengths=lengths, implementation=implementation
    )
    return out[:, :n]


def attention_shares(
    q: Float[Array, "b n heads k"], k: Float[Array, "b m heads k"], mask: Bool[Array, "b 1 1 m"] | None = None
) -> Float[Array, "b m"]:
    """The weight of every key in ``attend``, on average over queries and heads; an observation's sum to one."""
    logits = jnp.einsum("bnhk,bmhk->bhnm", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    return jnp.mean(jax.nn.softmax(logits, axis=-1), axis=(1, 2))


def remat(module: type[nn.Module], policy: str, scan: bool) -> type[nn.Module]:
    """A layer whose backward pass computes again what the forward pass did not keep.

    "none" keeps everything; "full" keeps the layer's input alone; "dots" keeps the results of matrix products too.
    Outside a scan XLA must be kept from merging the second computation with the first, which would undo it.
    """
    if policy == "none":
        return module
    keep = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if policy == "dots" else None
    return nn.remat(module, policy=keep, prevent_cse=not scan)


def stack(module: type[nn.Module], depth: int, scan: bool, policy: str, options: dict) -> Callable:
    """``depth`` layers x -> layer(x, *more), one after the other, from inside a compact method.

    With ``scan`` they are one compiled body over parameters stacked along a first axis (``blocks``), so that a deep
    network compiles as fast as a shallow one; without, they are ``block_0``, ``block_1``, ... and XLA sees them all.
    """
    layer = remat(module, policy, scan)

    def run(x, *more):
        x = constrain_batch_sharding(x)
        if not scan:
            for i in range(depth):
                x = constrain_batch_sharding(layer(**options, name=f"block_{i}")(x, *more))
            return x
        body = nn.scan(
            lambda block, x, *more: (constrain_batch_sharding(block(x, *more)), None),
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=depth,
        )
        return body(layer(**options, name="blocks"), x, *more)[0]

    return run


class Attention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys; self-attention if no context is given.

    ``positions`` turns RoPE on for queries and keys alike (self-attention over an ordered sequence). Who asks for
    ``intermediates`` is told how much the queries look at each key (``shares`` [b m]).
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        context: Float[Array, "b m e"] | None = None,
        mask: Bool[Array, "b m"] | None = None,
        positions: Float[Array, " n"] | None = None,
    ) -> Float[Array, "b n d"]:
        d = x.shape[-1]
        context = x if context is None else context

        def heads(name, y):
            y = Dense(d, self.dtype, use_bias=False, name=name)(y)
            return y.reshape(*y.shape[:-1], self.heads, d // self.heads)

        q = RMSNorm(name="query_norm")(heads("query", x))
        k = RMSNorm(name="key_norm")(heads("key", context))
        v = heads("value", context)
        if positions is not None:
            q, k = rope(q, positions), rope(k, positions)
        mask = None if mask is None else mask[:, None, None, :]
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "shares", attention_shares(q, k, mask))
        out = attend(q, k, v, mask)
        return Dense(d, self.dtype, use_bias=False, name="out")(out.reshape(*out.shape[:-2], d))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer, arXiv 2002.05202); 2/3 of the ratio keeps the parameters of a plain MLP."""

    ratio: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        hidden = int(self.ratio * x.shape[-1] * 2 / 3) // 8 * 8

        def dense(width, name):
            return Dense(width, self.dtype, use_bias=False, name=name)

        return dense(x.shape[-1], "down")(nn.silu(dense(hidden, "gate")(x)) * dense(hidden, "up")(x))


class Block(nn.Module):
    """Pre-norm transformer block of the encoders: attention, then SwiGLU."""

    heads: int
    mlp_ratio: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, mask=None, positions=None):
        attention = Attention(self.heads, self.dtype, name="attention")
        x = x + attention(RMSNorm(name="attention_norm")(x), mask=mask, positions=positions)
        return x + SwiGLU(self.mlp_ratio, self.dtype, name="mlp")(RMSNorm(name="mlp_norm")(x))


class Modulation(nn.Module):
    """adaLN-Zero (Peebles & Xie, arXiv 2212.09748): n vectors of width d from the condition, all zero at the start."""

    count: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, condition: Float[Array, "b g d"]) -> list[Float[Array, "b g 1 d"]]:
        dense = Dense(self.count * self.width, self.dtype, kernel_init=nn.initializers.zeros, name="dense")
        # Where parameters are split either the matrix comes to the vectors or, if they are fewer than its rows, they to it.
        vectors = constrain_batch_sharding(nn.silu(condition))
        over = BATCH_AXES[:1] if is_small_batch(vectors, self.width) else BATCH_AXES
        out = constrain_batch_sharding(constrain_batch_sharding(dense(constrain_batch_sharding(vectors, over)), over))
        return jnp.split(out[:, :, None], self.count, axis=-1)


def normalise(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """RMSNorm without a scale of its own: the modulation supplies it."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + 1e-6)).astype(x.dtype)


def sinusoid(value: Float[Array, "*n"], width: int) -> Float[Array, "*n width"]:
    """Sines and cosines of a scalar in [0, 1], periods 2 pi down to 2 pi / 1000."""
    frequency = 1000.0 ** (jnp.arange(width // 2) / (width // 2))
    angle = value[..., None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def space_to_depth(x: Float[Array, "n height width c"], k: int) -> Float[Array, "n height//{k} width//{k} {k}*{k}*c"]:
    """Cuts the image into squares of k pixels and lays each square's values along the channels."""
    n, height, width, c = x.shape
    x = x.reshape(n, height // k, k, width // k, k, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // k, width // k, k * k * c)
