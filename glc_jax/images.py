"""Pictures in and out: anything Pillow reads becomes uint8 RGB.

Knows nothing of the codec, and imports NumPy and Pillow only when a function needs them.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from glc_jax import colour, plugins
from glc_jax.errors import GLCError, InputError, OutputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MAX_PIXELS = 64_000_000
"""The largest picture (width x height) that is read or decoded unless the caller says otherwise."""

PICTURE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "hif", "j2k", "jp2", "jpe", "jpeg", "jpg"),
        *("jxl", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "qoi", "sgi", "tga", "tif", "tiff"),
        "webp",
    )
)
"""The file names that `find` takes for pictures."""

CAMERA_SUFFIXES = frozenset(
    f".{name}" for name in ("arw", "cr2", "cr3", "dng", "nef", "orf", "raf", "raw", "rw2", "srw")
)
"""Names of photographs that Pillow does not read."""

MAKER = "glc_jax"
"""What EXIF names as the software of pictures that were decoded here."""

_ORIENTATION, _SOFTWARE = 0x0112, 0x0131  # EXIF tags
PNG_LEVEL = 4
"""Of deflate: 1 % more bytes than at Pillow's own level 6, in less than half of the time."""

_WITH_EXIF = frozenset(("AVIF", "HEIF", "JPEG", "JXL", "PNG", "WEBP"))
_WITH_QUALITY = frozenset(("AVIF", "HEIF", "JPEG", "JXL", "WEBP"))

# What Pillow's readers raise on damaged files, beyond OSError.
_DAMAGED = (
    *(SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, RuntimeError),
    *(struct.error, zlib.error),
)

Color = str | tuple[int, int, int]


def read(
    source: str | os.PathLike[str] | IO[bytes],
    *,
    max_pixels: int | None = MAX_PIXELS,
    background: Color | None = None,
    fits: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The picture in a file as `to_rgb` gives it.

    Args:
      source: a path or an open binary file.
      max_pixels: refuse a larger width x height before anything is decoded; None for no limit.
        (Pillow's own `PIL.Image.MAX_IMAGE_PIXELS` applies as well.)
      background: as in `to_rgb`.
      fits: called with (height, width) before anything is decoded; may raise a GLCError.

    Returns:
      uint8 [height, width, 3], sRGB, upright.

    Raises:
      InputError: missing, no picture, damaged, too large, or transparent without a background.
        The message begins with the name of the file, as does that of an error which `fits` raised.
    """
    from PIL import Image, UnidentifiedImageError

    named = isinstance(source, (str, os.PathLike))
    name = str(source if named else getattr(source, "name", "standard input"))
    try:
        with plugins.open_image(source) as image:
            width, height = image.size
            if width == 0 or height == 0:
                raise InputError(f"the picture is empty ({width} x {height}).")
            if max_pixels is not None and width * height > max_pixels:
                raise InputError(
                    f"{width} x {height} = {width * height:,} pixels are more than the limit of "
                    f"{max_pixels:,} (--max-pixels, max_pixels=)."
                )
            if fits is not None:
                fits(height, width)
            if getattr(image, "is_animated", False) and image.format != "MPO":
                warnings.warn(f"{name}: only the first of several frames is used.", stacklevel=2)
            return to_rgb(image, background=background)
    except GLCError as error:
        raise type(error)(f"{name}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file.") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: is a folder, not a picture.") from error
    except UnidentifiedImageError as error:
        hint = plugins.hint(plugins.suffix_of(source))
        raise InputError(f"{name}: not a picture in a format that Pillow reads{hint}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name}: larger than PIL.Image.MAX_IMAGE_PIXELS allows.") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}).") from error
    except _DAMAGED as error:
        raise InputError(f"{name}: damaged picture ({error}).") from error


def to_rgb(image: Image.Image, *, background: Color | None = None) -> np.ndarray:
    """Any Pillow image as plain 8-bit RGB, the way a viewer would show it.

    EXIF orientation is applied, an embedded ICC profile is converted to sRGB, grey, palette, CMYK
    and Lab become RGB, more than 8 bits are scaled as `colour.to_8_bits` says.

    Args:
      image: of any mode. Of an animation, the current frame.
      background: what shows through transparent pixels, as a name or "#rrggbb" (anything
        `PIL.ImageColor.getrgb` reads) or three values of 0..255. Without it, an alpha channel may
        be present but must be opaque everywhere.

    Returns:
      uint8 [height, width, 3].

    Raises:
      InputError: transparent pixels without a background, an unknown colour, or values that no
        convention maps to 8 bits. OSError and the like where Pillow cannot decode the pixels.
    """
    import numpy as np
    from PIL import Image, ImageOps

    name = getattr(image, "filename", "") or "picture"
    profile, kind = image.info.get("icc_profile"), image.format
    if image.getexif().get(_ORIENTATION, 1) != 1:  # without it, a copy of all pixels
        image = ImageOps.exif_transpose(image)
    image, alpha = colour.split_alpha(colour.to_8_bits(image, kind))
    image = colour.to_srgb(image, profile, name)
    if alpha is not None and alpha.getextrema()[0] < 255:
        if background is None:
            raise InputError(
                "has transparent pixels; say what goes behind them (--background, background=)."
            )
        image = Image.composite(image, Image.new("RGB", image.size, parse_color(background)), alpha)
    return np.asarray(image)


def parse_color(color: Color) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of a colour name, "#rrggbb" or the three values themselves.

    Raises:
      InputError: not a colour.
    """
    from PIL import ImageColor

    if not isinstance(color, str):
        try:
            red, green, blue = color
            if all(0 <= value <= 255 for value in color):
                return int(red), int(green), int(blue)
        except (TypeError, ValueError):
            pass
        raise InputError(f"{color!r} is not a colour: give three values of 0 to 255.")
    try:
        return ImageColor.getrgb(color)[:3]
    except ValueError:
        raise InputError(f"{color!r} is not a colour: try white or '#ffffff'.") from None


def find(
    folder: str | os.PathLike[str],
    leave_out: str | os.PathLike[str] | None = None,
    unreadable: list[GLCError] | None = None,
) -> list[Path]:
    """The picture files in a folder and its subfolders, by their names, sorted; hidden ones not.

    `leave_out` and `unreadable` as in `walk`.

    Raises:
      InputError: not a folder, or no picture in it, or it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder.")
    files = walk(folder, leave_out, unreadable)
    found = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    if not found:
        raise InputError(f"{folder}: no pictures in this folder.")
    return found


def is_picture_name(name: str | os.PathLike[str]) -> bool:
    """Whether a file of this name would be taken for a picture other than .glc."""
    from PIL import Image

    suffix = Path(name).suffix.lower()
    if suffix in PICTURE_SUFFIXES | CAMERA_SUFFIXES:
        return True
    return suffix != ".glc" and suffix in Image.registered_extensions()


def walk(
    folder: Path,
    leave_out: str | os.PathLike[str] | None = None,
    unreadable: list[GLCError] | None = None,
) -> list[Path]:
    """All files below a folder, sorted, except where a name on the way begins with a dot.

    Args:
      folder: where to look.
      leave_out: a folder whose files are not meant.
      unreadable: takes the errors of subfolders that cannot be read; without it the first of them
        is raised.

    Raises:
      InputError: the folder cannot be read.
    """
    own = None if leave_out is None else os.path.realpath(leave_out)
    files = []

    def refused(error: OSError) -> None:
        found = InputError(f"{error.filename}: this folder cannot be read ({error.strerror}).")
        if unreadable is None or Path(error.filename) == folder:
            raise found from error
        unreadable.append(found)

    for place, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(place, name)) != own
        ]
        paths = (Path(place, name) for name in names if not name.startswith("."))
        files += [path for path in paths if path.is_file()]
    return sorted(files)


def encode(image: np.ndarray, name: str, quality: int | None = None) -> bytes:
    """A picture as the bytes of an ordinary image file.

    Without a quality WebP and JPEG XL are written lossless, JPEG at quality 95 without chroma
    subsampling; others as Pillow does. EXIF, where the format has it, says that glc_jax made the
    pixels, so that `was_coded` can tell.

    Args:
      image: uint8 [height, width, 3].
      name: a file name; its suffix chooses the format.
      quality: 1 .. 100, of a format that has one.

    Raises:
      OutputError: as `picture_format`; or the format cannot hold a picture of this size.
    """
    from PIL import Image

    kind = picture_format(name, quality)
    options = {} if quality is None else {"quality": quality}
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    elif kind in ("WEBP", "JXL") and quality is None:
        options = {"lossless": True}
    elif kind == "PNG":
        options["compress_level"] = PNG_LEVEL
    if kind in _WITH_EXIF:
        options["exif"] = _made_here()
    buffer = io.BytesIO()
    try:
        Image.fromarray(image).save(buffer, format=kind, **options)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"{name}: Pillow cannot write this as {kind} ({error}).") from error
    if kind in Image.OPEN:
        with Image.open(buffer, formats=[kind]) as written:
            if written.size != image.shape[1::-1]:
                raise OutputError(
                    f"{name}: {kind} does not hold {image.shape[1]} x {image.shape[0]} pixels; "
                    f"Pillow would make them {written.width} x {written.height}."
                )
    return buffer.getvalue()


def picture_format(name: str | os.PathLike[str], quality: int | None = None) -> str:
    """Pillow's name ("PNG") of the format that a file name's suffix stands for.

    Raises:
      OutputError: no format that Pillow writes has this suffix, or it has no quality to set.
    """
    from PIL import Image

    suffix = Path(name).suffix.lower()
    Image.preinit()
    if suffix not in Image.EXTENSION:
        plugins.load()
        Image.init()
    kind = Image.EXTENSION.get(suffix)
    if kind not in Image.SAVE:
        raise OutputError(
            f"{name}: no picture format is written under the suffix {suffix!r}"
            f"{plugins.hint(suffix)}."
        )
    if quality is not None and kind not in _WITH_QUALITY:
        raise OutputError(f"{name}: {kind} has no quality to set; leave --quality out.")
    return kind


def _made_here() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[_SOFTWARE] = MAKER
    return exif.tobytes()


def was_coded(source: str | os.PathLike[str] | IO[bytes]) -> bool:
    """Whether a picture is a .glc file, or says that `encode` wrote it; read from its header."""
    from PIL import Image

    try:
        with plugins.open_image(source) as image:
            if image.format == "GLC":
                return True
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
            return str(exif.get(_SOFTWARE, "")).startswith(MAKER)
    except (OSError, *_DAMAGED):
        return False
