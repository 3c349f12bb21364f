"""What a compiled program does in one call on each device, read off its text: products and messages, through its loops.

XLA's own count looks at the body of a loop once, however often it runs, and of a program for CUDA there is none at all. The
text of the optimised program has everything: computations, who calls whom, and of each loop how often it runs, either as
its ``known_trip_count`` or as the one integer that its condition compares with. With an instruction run n times,

    dot, cuBLAS product   n * 2 * (elements of the result) * (contracted elements)
    convolution           n * 2 * (products with an element that exists); on TPU every product is a convolution
    cuDNN attention       n times the two products of the forward pass, the five of the backward pass
    collective            n * bytes of its larger side: what is gathered, what is reduced, before or after it is scattered

XLA writes one collective in several ways: as one instruction or as a pair (start, done). On TPU it may be cut into pieces
that are fused with computations meanwhile; pieces have one channel and count once. There a reduce-scatter is an all-reduce
within a fusion called ``all-reduce-scatter``; these count each, as several may have one channel.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "f16": 2, "c64": 8, "c128": 16}  # others: bits in their name
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      operation: "fusion", "all-gather-start", ...
      arrays: (element type, shape) of the result, of each of its parts if it is a tuple.
      operands: names of instructions of the same computation.
      text: what stands behind the operation's name: operands and attributes.
    """

    operation: str
    arrays: tuple[tuple[str, Shape], ...]
    operands: tuple[str, ...]
    text: str

    @property
    def shape(self) -> Shape:
        return self.arrays[0][1]

    @property
    def bytes(self) -> float:
        return sum(math.prod(shape) * _itemsize(kind) for kind, shape in self.arrays)


class Program:
    """The computations of an optimised HLO module and how often each of them runs."""

    def __init__(self, text: str):
        """Reads ``compiled.as_text()``.

        Raises:
          ValueError: a loop does not say how often it runs.
        """
        self.computations: dict[str, dict[str, Instruction]] = {}
        entry, current = "", {}
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                current = self.computations.setdefault(head[2], {})
                entry = head[2] if head[1] else entry
            elif row := _INSTRUCTION.match(line):
                current[row[1]] = _instruction(row[2])
        self.runs: dict[str, int] = defaultdict(int)
        self._fused: set[str] = set()
        self._walk(entry, 1)

    def _walk(self, name: str, times: int) -> None:
        self.runs[name] += times
        for instruction in self.computations[name].values():
            if instruction.operation in ("async-update", "async-done"):
                continue  # they name what async-start has called
            called = [*_CALLED.findall(instruction.text)]
            if branches := _BRANCHES.search(instruction.text):
                called += [("branch", branch.strip(" %")) for branch in branches[1].split(",")]
            rounds = self._trips(instruction) if instruction.operation == "while" else 1
            if instruction.operation == "fusion":
                self._fused.update(name for _, name in called)
            for how, other in called:
                if how != "condition" and other in self.computations:
                    self._walk(other, times * rounds)

    def _trips(self, loop: Instruction) -> int:
        if known := _TRIPS.search(loop.text):
            return int(known[1])
        condition = self.computations[re.search(r"condition=%?([\w.\-]+)", loop.text)[1]]
        limits = {x.text for x in condition.values() if x.operation == "constant" and x.arrays == (("s32", ()),)}
        if len(limits) != 1:
            raise ValueError(f"a loop of the compiled program does not say how often it runs: {loop.text[:200]}")
        return int(re.match(r"\((\d+)\)", limits.pop())[1])

    def _executed(self) -> Iterator[tuple[str, Instruction, int]]:
        for name, times in self.runs.items():
            for instruction in self.computations[name].values():
                yield name, instruction, times

    def flops(self) -> int:
        """Operations of matrix products and convolutions on one device; to multiply and to add are two."""
        return sum(times * self._cost(name, x) for name, x, times in self._executed())

    def _cost(self, computation: str, x: Instruction) -> int:
        if x.operation not in ("dot", "convolution", "custom-call"):
            return 0
        left, right = ([*self._operands(computation, x), None, None])[:2]
        if x.operation == "convolution":
            return 2 * _convolution(x, left.shape, right.shape)
        if x.operation == "dot":
            return 2 * math.prod(x.shape) * _contracted(left.shape, r"lhs_contracting_dims=\{([\d,]*)\}", x.text)
        if re.search(r'custom_call_target="__cublas', x.text):
            lengths = _contracted(left.shape, r'"lhs_contracting_dimensions":\[([\d,"]*)\]', x.text)
            return 2 * math.prod(x.shape) * lengths
        if re.search(r'custom_call_target="__cudnn\$fmha', x.text):  # queries [b n heads k], keys [b m heads k]
            products = 5 if "Backward" in x.text else 2
            return products * 2 * math.prod(left.shape) * right.shape[1]
        return 0

    def collectives(self) -> dict[str, float]:
        """Bytes of one device by kind of collective, those that occur; XLA's names."""
        total, seen = defaultdict(float), set()
        for name, x, times in self._executed():
            kind = x.operation.removesuffix("-done")
            if kind not in COLLECTIVES:
                continue
            start = self.computations[name][x.operands[0]] if x.operation.endswith("-done") else x
            if "all-reduce-scatter" in name:
                kind = "reduce-scatter"
            elif name in self._fused:
                piece = (kind, tuple(re.findall(r"channel_id=(\d+)", start.text)), x.arrays, times)
                if piece in seen:
                    continue
                seen.add(piece)
            total[kind] += times * max(x.bytes, sum(operand.bytes for operand in self._operands(name, start)))
        return dict(total)

    def _operands(self, computation: str, x: Instruction) -> list[Instruction]:
        return [self.computations[computation][name] for name in x.operands]


def _instruction(text: str) -> Instruction:
    """From "bf16[8,4]{1,0} add(%a, %b), metadata=..."."""
    depth = itertools.accumulate((c in "({[") - (c in ")}]") for c in text)
    end = next((i for i, (c, level) in enumerate(zip(text, depth)) if c == " " and level == 0), 0)
    shape, rest = text[:end], text[end + 1 :]
    operation, _, behind = rest.partition("(")
    close = _closing(behind)
    operands = tuple(re.findall(r"%([\w.\-]+)", behind[:close]))
    arrays = tuple((kind, _dims(dims)) for kind, dims in _ARRAY.findall(shape))
    return Instruction(operation, arrays, operands, "(" + behind)


def _closing(text: str) -> int:
    """Where the bracket closes that was opened before the text."""
    level = 1
    for i, c in enumerate(text):
        level += (c == "(") - (c == ")")
        if level == 0:
            return i
    return len(text)


def _dims(text: str) -> Shape:
    return tuple(int(n) for n in re.findall(r"\d+", text))


def _itemsize(kind: str) -> float:
    """Bytes of an element: "bf16" -> 2, "f8e4m3fn" -> 1, "s32" -> 4; "token" -> 0."""
    if kind in BYTES:
        return BYTES[kind]
    bits = re.match(r"[a-z]+(\d+)", kind)
    return int(bits[1]) / 8 if bits else 0


def _contracted(shape: Shape, pattern: str, text: str) -> int:
    return math.prod(shape[axis] for axis in _dims(re.search(pattern, text)[1]))


def _convolution(x: Instruction, image: Shape, kernel: Shape) -> int:
    """Products of an image's element with a kernel's that exist: neither padding nor what dilation puts between."""
    inputs, weights, result = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", x.text).groups()
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", (re.search(r"window=\{([^}]*)\}", x.text) or [""])[0]))
    spatial = sorted(c for c in result if c.isdigit())

    def each(name, default):
        return window[name].split("x") if name in window else [default] * len(spatial)

    settings = zip(spatial, each("stride", "1"), each("pad", "0_0"), each("lhs_dilate", "1"), each("rhs_dilate", "1"))
    count = x.shape[result.index("b")] * x.shape[result.index("f")] * kernel[weights.index("i")]
    for axis, stride, pad, stretch, spread in settings:
        size, taps, places = (
            s[labels.index(axis)] for s, labels in ((image, inputs), (kernel, weights), (x.shape, result))
        )
        low, stretch = int(pad.split("_")[0]), int(stretch)
        meets = [p * int(stride) + t * int(spread) - low for p in range(places) for t in range(taps)]
        count *= sum(at % stretch == 0 and 0 <= at // stretch < size for at in meets)
    return count
