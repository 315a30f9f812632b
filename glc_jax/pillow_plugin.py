"""Pillow reads and writes .glc: `PIL.Image.open("x.glc")`, `image.save("x.glc", rate=1.5)`.

`import glc_jax` registers the format. Opening reads the header alone; the picture is decoded when
its pixels are first asked for, and only then is JAX imported. A file is decoded with the packaged
model that it names, or with the weights file that the environment variable GLC_WEIGHTS names.

Pillow empties the file of a name that is there before it asks a format to write, so that a save
that fails leaves nothing of it: give such a save a name of its own, or a buffer.

What goes wrong is a `GLCImageError`, which is an OSError, as Pillow's users expect of a bad file,
and a GLCError.
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import IO, TYPE_CHECKING

from PIL import Image, ImageFile

from glc_jax.errors import GLCError

if TYPE_CHECKING:
    from glc_jax.codec import Codec


class GLCImageError(GLCError, OSError):
    """A .glc picture that Pillow was asked for and cannot be read or written."""


class GLCImageFile(ImageFile.ImageFile):
    """A .glc file, decoded on demand; `info` has its "rate" and its "weights" (fingerprint)."""

    format = "GLC"
    format_description = "Generative latent coding"

    def _open(self) -> None:
        from glc_jax import bitstream, weights

        try:
            header = bitstream.parse(self.fp.read(), max_pixels=None)
            rate = header.rate(weights.highest_rate(header.fingerprint))
        except GLCError as error:
            raise GLCImageError(str(error)) from error
        self._size = (header.width, header.height)
        self._mode = "RGB"
        self.info = {"rate": rate, "weights": header.fingerprint.hex()}
        self.tile = [ImageFile._Tile("glc", (0, 0, *self._size), 0, None)]


class GLCDecoder(ImageFile.PyDecoder):
    """Runs the codec on a whole file."""

    _pulls_fd = True

    def decode(self, buffer: bytes) -> tuple[int, int]:
        """Fills the image; -1 tells Pillow that nothing more is wanted, 0 that all is well."""
        from glc_jax import bitstream, weights

        data = self.fd.read()
        try:
            # The size has passed Pillow's own limit, which the user may have raised, in open().
            container = bitstream.parse(data, max_pixels=None)
            codec = _codec(str(weights.matching(container.fingerprint)))
            pixels = codec.decompress(data, max_pixels=None)
        except GLCError as error:
            raise GLCImageError(str(error)) from error
        self.set_as_raw(pixels.tobytes())
        return -1, 0


def save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Pillow's save handler; the options of `Image.save` that it knows are:

    rate: 0 (fewest bytes) to 3, a float; the middle, 1.5, if not given.
    target_bytes: instead of rate, the size of the file to aim at; a warning tells where it is out
      of reach.
    weights: a packaged model's name or a weights file; else GLC_WEIGHTS, else the default model.
    background: the colour behind transparent pixels, which are refused without it.
    restore: write the file of the picture before it was spoiled; any decoder reads it.
    restorer: a packaged restorer's name or its file; else the packaged one of the weights.
    """
    from glc_jax import facts, images, weights

    options = image.encoderinfo
    rate, target = options.get("rate"), options.get("target_bytes")
    if rate is not None and target is not None:
        raise GLCImageError("rate and target_bytes do not go together; give one of them.")
    if "restorer" in options and not options.get("restore"):
        raise GLCImageError("restorer says what restore=True is to use; give that as well.")
    try:
        pixels = images.to_rgb(image, background=options.get("background"))
        codec = _codec(str(weights.resolve(options.get("weights"))), options.get("restorer"))
        restore = bool(options.get("restore"))
        if target is not None:
            data, found = codec.compress_to_size(pixels, target_bytes=target, restore=restore)
            pixel_count = pixels.shape[0] * pixels.shape[1]
            note = facts.size_note(len(data), target, pixel_count, found == codec.highest_rate)
            if note:
                warnings.warn(note, stacklevel=3)
        else:
            data = codec.compress(pixels, rate=rate, restore=restore)
    except GLCError as error:
        raise GLCImageError(str(error)) from error
    file.write(data)


@functools.lru_cache(maxsize=2)
def _codec(weights: str, restorer: str | os.PathLike[str] | None = None) -> Codec:
    """Kept, so that a folder of pictures loads and compiles the model once."""
    from glc_jax import codec

    return codec.load(weights, restorer=restorer)


def accept(prefix: bytes) -> bool:
    """Whether a file that begins so (two bytes are enough) is a .glc file."""
    from glc_jax import bitstream

    return int.from_bytes(prefix[:2]) >> 4 == bitstream.MAGIC


def register() -> None:
    """Makes the format known to Pillow."""
    Image.register_open(GLCImageFile.format, GLCImageFile, accept)
    Image.register_decoder("glc", GLCDecoder)
    Image.register_save(GLCImageFile.format, save)
    Image.register_extension(GLCImageFile.format, ".glc")
    Image.register_mime(GLCImageFile.format, "image/x-glc")
