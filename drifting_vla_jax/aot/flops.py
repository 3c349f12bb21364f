"""What a function costs, read off its jaxpr: products counted through every loop, bytes kept for the gradient.

XLA's own cost analysis counts the body of a scan once, however often it runs: of a stack of layers it sees one. Here

    dot_general            2 * (elements of the result) * (contracted elements)
    conv_general_dilated   2 * (elements of the result) * (kernel elements behind each) / (lhs dilation)
    cuDNN attention        the two products of the forward pass, the five of the backward pass
    scan                   length * body
    cond                   its dearest branch
    shard_map              devices * body, whose shapes are those of one device
    while                  body and condition once, as the number of rounds is unknown; a ``fori_loop`` between constants
                           is a scan by the time it comes here
    any other equation     what is inside it (jit, checkpoint, custom derivatives); by itself nothing

so the figures are those of matrix products and convolutions alone, the convention of published utilisations. What
``jax.checkpoint`` computes again counts again; what no result needs is left out, as XLA leaves it out. Kernels written by
hand, other than that attention, are not seen. Nothing runs and nothing is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

# One product of attention is 2 * batch * heads * queries * keys * head size: scores and their weighted values; going
# back the scores once more, then the gradients of values, weights, queries and keys.
_CUDNN_ATTENTION = {"dot_product_attention_fwd_wrapper": 2, "dot_product_attention_bwd_wrapper": 5}


def flops(function: Callable, *args) -> int:
    """Floating point operations of ``function(*args)``: products only, a multiplication and an addition are two.

    Args:
      function: traceable by JAX.
      args: pytrees of arrays, or of ``jax.ShapeDtypeStruct``.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _count(needed)


def residual_bytes(function: Callable, params, *args) -> int:
    """Bytes that the backward pass over ``params`` keeps from the forward pass, as differentiation itself decides.

    ``jax.checkpoint`` counts: what is computed again is not kept. Inputs handed on as they are (parameters, the batch)
    are there anyway and do not count; what is made of them does, a copy in another precision for instance. XLA may keep
    less, by fusing or by computing cheap things again; it needs more for a while, where a checkpointed layer is
    computed again.

    Args:
      function: (params, *args) -> a pytree of floats, usually the loss.
    """

    def residuals(params, *args):
        return jax.tree.leaves(jax.vjp(lambda p: function(p, *args), params)[1])

    jaxpr = jax.make_jaxpr(residuals)(params, *args).jaxpr
    kept = {v for v in jaxpr.outvars if not isinstance(v, Literal)} - {*jaxpr.invars, *jaxpr.constvars}
    return sum(math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in kept)


def _count(jaxpr: Jaxpr) -> int:
    return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _product(equation)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name in _CUDNN_ATTENTION:
        (b, n, heads, size), (_, keys, *_) = (v.aval.shape for v in equation.invars[:2])
        return _CUDNN_ATTENTION[name] * 2 * b * heads * n * keys * size
    inside = [_count(jaxpr) for jaxpr in jaxprs_in_params(params)]
    if name == "cond":
        return max(inside)
    if name == "scan":
        return params["length"] * sum(inside)
    if name == "shard_map":
        return math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"]) * sum(inside)
    return sum(inside)


def _product(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, result = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)


def _convolution(equation: JaxprEqn) -> int:
    """Padding counts as if it were image; the zeros that dilation puts between inputs (strided backward) do not."""
    kernel, result = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    dilation = math.prod(equation.params["lhs_dilation"])
    return 2 * math.prod(result) * math.prod(kernel) // features // dilation
