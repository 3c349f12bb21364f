"""RLBench's pictures: PNG files in whose three colours depth and object handles are packed.

    rgb    uint8 [H, W, 3]
    depth  24 bits, red the highest:  d = (R * 65536 + G * 256 + B) / (2^24 - 1),  metres = near + d (far - near)
    mask   object handle, red the lowest:  R + 256 G + 65536 B

Packing from stepjam/RLBench (backend/utils.py). PerAct's fork unpacks masks into 8 bits and loses handles; files are right.
A PNG's own checksums say whether it is as it was written, so most pictures are used without being decoded.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from drifting_vla_jax.core.episode import encode_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB_8 = (8, 2)  # bit depth and colour type


class ImageError(ValueError):
    """A picture that is damaged or of another kind."""


def check_png(data: bytes) -> tuple[int, int]:
    """Height and width of an 8-bit RGB PNG that is exactly as it was written.

    Raises:
      ImageError: a checksum is wrong, something is missing or follows, or it is no 8-bit RGB PNG.
    """
    if not data.startswith(SIGNATURE):
        raise ImageError(f"{len(data)} bytes that are no PNG")
    at, kind, size = len(SIGNATURE), b"", None
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ImageError(f"a PNG that ends after {len(data)} bytes")
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError(f"a PNG whose part at byte {at} has a wrong checksum or is cut")
        if kind == b"IHDR":
            width, height, *form = struct.unpack_from(">IIBB", data, at + 8)
            size = (height, width)
            if tuple(form) != RGB_8:
                raise ImageError(f"a PNG of bit depth {form[0]} and colour type {form[1]}; expected 8-bit RGB (8, 2)")
        at = end + 4
    if size is None or at != len(data):
        raise ImageError("a PNG without a header, or with something after its end")
    return size


def decode_rgb(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of a PNG that is undamaged; raises ImageError otherwise."""
    size = check_png(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None or image.shape != (*size, 3):
        raise ImageError(f"a PNG of {size[1]} x {size[0]} that cannot be decoded")
    return image


def decode_depth(data: bytes, near: float, far: float) -> Float[np.ndarray, "height width"]:
    """Metres along the optical axis, float32; ``near`` and ``far`` are the camera's clipping planes (m)."""
    r, g, b = np.moveaxis(decode_rgb(data).astype(np.float64), -1, 0)
    share = (r * 65536 + g * 256 + b) / (2**24 - 1)
    return (near + share * (far - near)).astype(np.float32)


def decode_mask(data: bytes) -> Int[np.ndarray, "height width"]:
    """CoppeliaSim's object handles, int32."""
    r, g, b = np.moveaxis(decode_rgb(data).astype(np.int32), -1, 0)
    return r + 256 * g + 65536 * b


def resized(data: bytes, size: int) -> bytes:
    """A square PNG of ``size`` pixels: the same bytes if it has that size; averaged if larger, interpolated if smaller.

    Raises:
      ImageError: it is damaged or not square.
    """
    height, width = check_png(data)
    if height != width:
        raise ImageError(f"a picture of {width} x {height}; expected a square one")
    if height == size:
        return data
    how = cv2.INTER_AREA if size < height else cv2.INTER_LINEAR
    return encode_png(cv2.resize(decode_rgb(data), (size, size), interpolation=how))
