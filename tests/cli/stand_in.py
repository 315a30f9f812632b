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
    """A codec whose files have 100 bytes of payload at rate 0 and 400 at rate 3.

    Restored they have 5 less, fast ones 7 more. A style is its first value; what is drawn fast is
    brighter by 1.
    """

    highest_rate = 3.0

    def __init__(self, path, max_memory=None, device=None, plugins=(), restorer=None, stylist=None):
        self.fingerprint = weights.describe(path).fingerprint
        self.max_memory = max_memory
        self.restorer, self.stylist = restorer, stylist

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

    def compress(self, image, rate, restore=False, fast=False):
        assert restore == (self.restorer is not None)
        height, width, _ = image.shape
        payload = bytes(round(100 + 100 * rate) - 5 * restore + 7 * fast)
        return bitstream.serialise(
            bitstream.Container(
                width, height, bitstream.nearest_level(rate, 3), self.fingerprint, payload, 0, 7
            )
        )

    def compress_to_size(self, image, target_bytes, restore=False, fast=False):
        files = {rate: self.compress(image, rate, restore, fast) for rate in (3.0, 2.0, 1.0, 0.0)}
        fitting = [rate for rate, data in files.items() if len(data) <= target_bytes]
        rate = fitting[0] if fitting else 0.0
        return files[rate], rate

    def decompress(self, data, max_pixels, preview=False, style=None, strength=None, fast=False):
        container = bitstream.parse(data, max_pixels=max_pixels)
        if container.fingerprint != self.fingerprint:
            raise BitstreamError("other weights.")
        image = np.full(
            (container.height, container.width, 3), 9 if preview else 200 + fast, np.uint8
        )
        return image if style is None else self.styled(image, style, strength)

    def restore(self, image, rate, fast=False):
        assert self.restorer is not None
        return np.full_like(image, 100 + 10 * rate + fast)

    def stylise(self, image, style, strength, rate):
        return self.styled(np.full_like(image, 100 + 10 * rate), style, strength)

    def styled(self, image, style, strength):
        assert self.stylist is not None
        assert style.dtype == np.uint8
        return np.full_like(image, (1 - strength) * image[0, 0, 0] + strength * style[0, 0, 0])

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
