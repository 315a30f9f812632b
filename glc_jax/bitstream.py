"""The .glc container, version 2: 13 bytes around the range coder's payload. Knows no JAX.

    bytes  what
    2      magic 0xC74 (12 bits), version (4 bits)
    4 (8)  flags (4 bits), height - 1, width - 1 (14 bits each; 30 bits each in a large picture)
    1      rate, as a share of the model's range, in units of 1/252
    2      fingerprint of the weights
    n      payload
    2      check over the decoded symbols
    2      check over every byte before it

docs/format.md is the specification; what the payload holds is `entropy.exact_model`'s business.
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
VERSION = 2
PREFIX = bytes([MAGIC >> 4])
"""The first byte of every .glc file; it and the next never begin valid UTF-8 text."""

RATE_LEVELS = 252
"""Rates are shares n / 252 of a model's range: with four points, as GLC has, multiples of 1/84,
among them the points, their halves and quarters."""

_VERSION_1_UNIT = 84  # rates were multiples of 1/84 in version 1, whatever the model's range
FINGERPRINT_BYTES = 2
MAX_SIDE = 1 << 30
DEFAULT_MAX_PIXELS = 64_000_000

_OPTIONS, _LARGE, _RESERVED = 3, 4, 8
_CHECK_BYTES = 4  # both checks
_SMALL_BITS, _LARGE_BITS = 14, 30


@dataclass(frozen=True)
class Container:
    """What a .glc file says, its payload still coded.

    Attributes:
      width, height: of the picture, in pixels, 1 .. 2^30.
      level: the rate, 0 .. 252; what it means is `rate`'s business.
      fingerprint: two bytes that name the weights.
      payload: the range coder's bytes.
      options: two bits that belong to the payload, see `entropy.exact_model`.
      symbols_check: 16 bits over the decoded symbols, from `symbols_check`.
      version: of the format.
    """

    width: int
    height: int
    level: int
    fingerprint: bytes
    payload: bytes
    options: int
    symbols_check: int
    version: int = VERSION

    def rate(self, highest: float) -> float:
        """The rate, for a model whose rates go from 0 to `highest`.

        Raises BitstreamError where it is above that, which only version 1 can state.
        """
        rate = rate_of(self.level, highest)
        if self.version == 1:
            rate = self.level / _VERSION_1_UNIT
        if rate > highest:
            raise BitstreamError(
                f"The file states rate {rate:g}, above these weights' highest, {highest:g}; it "
                "is damaged."
            )
        return rate


def nearest_level(rate: float, highest: float) -> int:
    """The level whose rate is nearest to `rate`, of a model whose rates go from 0 to `highest`.

    Raises:
      ValueError: rate is not in that range.
    """
    if not 0 <= rate <= highest:
        raise ValueError(f"rate must be from 0 to {highest:g}, not {rate}")
    return round(rate / highest * RATE_LEVELS) if highest else 0


def rate_of(level: int, highest: float) -> float:
    """The rate that a level stands for."""
    return level * highest / RATE_LEVELS


def symbols_check(*decoded: np.ndarray) -> int:
    """16 bits over what a decoder must arrive at: the low half of a CRC-32.

    decoded: of each latent its values in fixed point (indices, or residuals plus means), integers
    taken row-major as little-endian int32; they depend on every symbol, and on every output of the
    programs that decides one.
    """
    crc = 0
    for values in decoded:
        crc = zlib.crc32(values.astype("<i4", order="C", copy=False), crc)
    return crc & 0xFFFF


def require_symbols(container: Container, *decoded: np.ndarray) -> None:
    """Raises BitstreamError where a file's check is not that of these symbols."""
    if symbols_check(*decoded) != container.symbols_check:
        raise BitstreamError("The file is damaged: its check does not match its symbols.")


def require_weights(container: Container, fingerprint: bytes, name: str) -> None:
    """Raises BitstreamError where a file was written with others than the weights `name`."""
    if container.fingerprint != fingerprint:
        raise BitstreamError(
            f"The file was written with the weights {container.fingerprint.hex()}; "
            f"these are {fingerprint.hex()} ({name}). "
            "Decode it with the weights that wrote it (--weights)."
        )


def overhead(width: int, height: int) -> int:
    """Bytes of a file that are no symbols; the coder's last byte, partly used, not counted."""
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
    if not (0 <= container.level <= RATE_LEVELS and 0 <= container.options <= _OPTIONS):
        raise ValueError("the rate's level or the options are out of range")
    flags = container.options | _LARGE * (bits == _LARGE_BITS)
    size = ((flags << bits | height - 1) << bits) | width - 1
    body = b"".join(
        (
            (MAGIC << 4 | container.version).to_bytes(2),
            size.to_bytes(size_bytes),
            bytes([container.level]),
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
    if rest[0] > RATE_LEVELS:
        raise BitstreamError("This .glc file is damaged: its rate is out of range.")
    return Container(
        width=width,
        height=height,
        level=rest[0],
        fingerprint=rest[1 : 1 + FINGERPRINT_BYTES],
        payload=rest[1 + FINGERPRINT_BYTES : -_CHECK_BYTES],
        options=flags & _OPTIONS,
        symbols_check=int.from_bytes(rest[-_CHECK_BYTES:-2]),
        version=version,
    )


def _size_bytes(width: int, height: int) -> int:
    return 4 if max(width, height) <= 1 << _SMALL_BITS else 8
