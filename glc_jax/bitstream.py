"""The .glc container, version 1: 13 bytes around the range coder's payload. Knows no JAX.

    bytes  what
    2      magic 0xC74 (12 bits), version (4 bits)
    4 (8)  flags (4 bits), height - 1, width - 1 (14 bits each; 30 bits each in a large picture)
    1      rate, in units of 1/84
    2      fingerprint of the weights
    n      payload
    2      check over the decoded symbols
    2      check over every byte before it

docs/format.md is the specification; what the payload holds is `entropy.symbol_coder`'s business.
The last check finds every flipped bit and every burst of up to 16 of them with certainty, other
damage with probability 1 - 2^-16; where that misses, the symbols' check sees it with the same
probability again.
"""

from __future__ import annotations

import binascii
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glc_jax.errors import BitstreamError

if TYPE_CHECKING:
    import numpy as np

MAGIC = 0xC74
VERSION = 1
PREFIX = bytes([MAGIC >> 4])
"""The first byte of every .glc file; it and the next never begin valid UTF-8 text."""

RATE_UNIT = 84
"""Rates are multiples of 1/84: the points, their halves, quarters and all 64 levels are exact."""

MAX_RATE = 3.0
FINGERPRINT_BYTES = 2
MAX_SIDE = 1 << 30
DEFAULT_MAX_PIXELS = 64_000_000

_Z_PRIOR, _ZEROS_SKIPPED, _LARGE, _RESERVED = 1, 2, 4, 8
_CHECK_BYTES = 4  # both checks
_SMALL_BITS, _LARGE_BITS = 14, 30


@dataclass(frozen=True)
class Container:
    """What a .glc file says, its payload still coded.

    Attributes:
      width, height: of the picture, in pixels, 1 .. 2^30.
      rate: 0 .. 3, a multiple of 1/84 (see `nearest_rate`).
      fingerprint: two bytes that name the weights.
      payload: the range coder's bytes.
      z_prior, zeros_skipped: see `entropy.symbol_coder.CodedSymbols`.
      symbols_check: 16 bits over the decoded symbols, from `symbols_check`.
    """

    width: int
    height: int
    rate: float
    fingerprint: bytes
    payload: bytes
    z_prior: bool
    zeros_skipped: bool
    symbols_check: int


def nearest_rate(rate: float) -> float:
    """The nearest rate that a file can state.

    Raises:
      ValueError: rate is not in 0 .. 3.
    """
    if not 0 <= rate <= MAX_RATE:
        raise ValueError(f"rate must be from 0 to {MAX_RATE:g}, not {rate}")
    return round(rate * RATE_UNIT) / RATE_UNIT


def symbols_check(z_indices: np.ndarray, y_hat: np.ndarray) -> int:
    """16 bits over what a decoder must arrive at: the low half of a CRC-32.

    Args:
      z_indices: integers, row-major, taken as little-endian uint32.
      y_hat: residuals plus means in fixed point [H, W, C], row-major, as little-endian int32; it
        depends on every decoded residual and on every output of the entropy networks.
    """
    crc = zlib.crc32(z_indices.astype("<u4", order="C", copy=False))
    return zlib.crc32(y_hat.astype("<i4", order="C", copy=False), crc) & 0xFFFF


def overhead(width: int, height: int) -> int:
    """Bytes of a file that are neither z nor y; the coder's last byte, partly used, not counted."""
    return 2 + _size_bytes(width, height) + 1 + FINGERPRINT_BYTES + _CHECK_BYTES


def sections(container: Container) -> dict[str, int]:
    """How many bytes each part of the file takes, in the order of the file."""
    return {
        "magic": 2,
        "size": _size_bytes(container.width, container.height),
        "rate": 1,
        "weights": FINGERPRINT_BYTES,
        "payload": len(container.payload),
        "checks": _CHECK_BYTES,
    }


def serialise(container: Container) -> bytes:
    """The bytes of a .glc file.

    Raises:
      ValueError: a field is out of its range.
    """
    width, height = container.width, container.height
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ValueError(f"a picture of {width}x{height} has no .glc form")
    if len(container.fingerprint) != FINGERPRINT_BYTES:
        raise ValueError(f"a fingerprint has {FINGERPRINT_BYTES} bytes")
    size_bytes = _size_bytes(width, height)
    bits = _SMALL_BITS if size_bytes == 4 else _LARGE_BITS
    flags = _Z_PRIOR * container.z_prior | _ZEROS_SKIPPED * container.zeros_skipped
    flags |= _LARGE * (bits == _LARGE_BITS)
    size = ((flags << bits | height - 1) << bits) | width - 1
    body = b"".join(
        (
            (MAGIC << 4 | VERSION).to_bytes(2),
            size.to_bytes(size_bytes),
            bytes([round(nearest_rate(container.rate) * RATE_UNIT)]),
            container.fingerprint,
            container.payload,
            container.symbols_check.to_bytes(2),
        )
    )
    return body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2)


def parse(data: bytes, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Container:
    """Read a .glc file, trusting nothing in it.

    Args:
      data: the whole file.
      max_pixels: larger pictures are refused; None sets no limit.

    Raises:
      BitstreamError: foreign, newer, cut short, altered or too large, in one sentence.
    """
    data = bytes(data)
    if len(data) < 2 or int.from_bytes(data[:2]) >> 4 != MAGIC:
        raise BitstreamError("This is not a .glc file.")
    version = data[1] & 0xF
    if version > VERSION:
        raise BitstreamError(
            f"This .glc file has format version {version}; this glc_jax reads up to version "
            f"{VERSION}. Install a newer one."
        )
    if len(data) < overhead(1, 1) or version == 0:
        raise BitstreamError("This .glc file is damaged: it is cut short.")
    body, check = data[:-2], int.from_bytes(data[-2:])
    if binascii.crc_hqx(body, 0xFFFF) != check:
        raise BitstreamError("This .glc file is damaged: its check does not match.")
    flags = data[2] >> 4
    if flags & _RESERVED:
        raise BitstreamError("This .glc file uses a feature that this glc_jax does not know.")
    size_bytes, bits = (8, _LARGE_BITS) if flags & _LARGE else (4, _SMALL_BITS)
    if len(data) < overhead(1, 1) - 4 + size_bytes:
        raise BitstreamError("This .glc file is damaged: it is cut short.")
    size = int.from_bytes(data[2 : 2 + size_bytes])
    height, width = (size >> bits) % (1 << bits) + 1, size % (1 << bits) + 1
    if max_pixels is not None and width * height > max_pixels:
        raise BitstreamError(
            f"This picture has {width}x{height} pixels, over the limit of {max_pixels}; raise "
            "the limit (--max-pixels, max_pixels) if it is to be trusted."
        )
    rest = data[2 + size_bytes :]
    rate = rest[0] / RATE_UNIT
    if rate > MAX_RATE:
        raise BitstreamError("This .glc file is damaged: its rate is out of range.")
    return Container(
        width=width,
        height=height,
        rate=rate,
        fingerprint=rest[1 : 1 + FINGERPRINT_BYTES],
        payload=rest[1 + FINGERPRINT_BYTES : -_CHECK_BYTES],
        z_prior=bool(flags & _Z_PRIOR),
        zeros_skipped=bool(flags & _ZEROS_SKIPPED),
        symbols_check=int.from_bytes(rest[-_CHECK_BYTES:-2]),
    )


def _size_bytes(width: int, height: int) -> int:
    return 4 if max(width, height) <= 1 << _SMALL_BITS else 8
