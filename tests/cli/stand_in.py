"""What the command line's tests share: a stand-in for the codec, and pictures to give to it.

The stand-in writes real containers, so `glc info` and the checks before decoding are the real ones.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from glc_jax import bitstream, memory, weights
from glc_jax.errors import BitstreamError, InputError

HEIGHT, WIDTH = 48, 64


class StandIn:
    """A codec whose files have 100 bytes of payload at rate 0 and 400 at rate 3."""

    highest_rate = 3.0

    def __init__(self, path, max_memory=None, device=None, plugins=()):
        self.fingerprint = weights.describe(path).fingerprint
        self.max_memory = max_memory

    def require_memory(self, height, width, operation):
        """A byte for each pixel."""
        limit = self.max_memory
        memory.require(height * width, limit, height, width, f"to {operation}", limit or 10**9)

    def nearest_rate(self, rate):
        if rate is None:
            return 1.5
        if not 0 <= rate <= 3:
            raise InputError(f"rate {rate} is not within 0 .. 3.")
        return bitstream.rate_of(bitstream.nearest_level(rate, 3), 3)

    def compress(self, image, rate):
        height, width, _ = image.shape
        payload = bytes(round(100 + 100 * rate))
        return bitstream.serialise(
            bitstream.Container(
                width, height, bitstream.nearest_level(rate, 3), self.fingerprint, payload, 0, 7
            )
        )

    def compress_to_size(self, image, target_bytes):
        rates = [
            rate for rate in (3.0, 2.0, 1.0) if len(self.compress(image, rate)) <= target_bytes
        ]
        rate = rates[0] if rates else 0.0
        return self.compress(image, rate), rate

    def decompress(self, data, preview, max_pixels):
        container = bitstream.parse(data, max_pixels=max_pixels)
        if container.fingerprint != self.fingerprint:
            raise BitstreamError("other weights.")
        return np.full((container.height, container.width, 3), 9 if preview else 200, np.uint8)

    def verify(self, data, max_pixels):
        if any(bitstream.parse(data, max_pixels=max_pixels).payload):
            raise BitstreamError("The file is damaged: its check does not match its symbols.")


class Stream(io.BytesIO):
    """Standard input or output: has a buffer, is no terminal."""

    @property
    def buffer(self):
        return self

    def isatty(self):
        return False


def picture(path, size=(WIDTH, HEIGHT), **options) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(options.pop("mode", "RGB"), size, options.pop("color", "teal")).save(path, **options)
    return path


def files(folder=".") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.*"))


def said(capsys) -> list[str]:
    """The complaints on standard error, without what became of each file."""
    return [line for line in capsys.readouterr().err.splitlines() if " -> " not in line]
