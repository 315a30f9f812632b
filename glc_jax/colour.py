"""What pixels mean: depth, transparency and colour profiles, as `images.to_rgb` uses them."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from glc_jax.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def to_8_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Modes of more than 8 bits a channel (Pillow has them in grey only) as "L" or "LA".

    16-bit integers are scaled by 255/65535 and floats by 255. 32-bit integers have no convention:
    their top is 255 or 65535, the smaller that holds all their values. `kind` is Pillow's name of
    the format that the picture comes from: PNG and PPM give "I" for 16 bits.

    Raises:
      InputError: values beyond the top.
    """
    import numpy as np
    from PIL import Image

    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    top = 1 if image.mode == "F" else 65535
    if image.mode == "I" and kind not in ("PNG", "PPM") and values.max() <= 255:
        top = 255
    if not (values.min() >= 0 and values.max() <= top):
        raise InputError(
            f"grey values of {values.min()} to {values.max()} are not within 0..{top}."
        )
    grey = Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    transparent = image.info.get("transparency")  # PNG's tRNS: the grey value that is not there
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, without an alpha channel, and the alpha channel ("L") if there is one."""
    premultiplied = {"La": "LA", "RGBa": "RGBA"}
    if image.mode in premultiplied:
        image = image.convert(premultiplied[image.mode])
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA")
        image = image.convert("LA" if grey else "RGBA")
        return image.convert("L" if grey else "RGB"), image.getchannel("A")
    if image.mode in ("P", "PA", "RGBX", "HSV", "YCbCr"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    return image, None


def to_srgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """ "L", "RGB", "CMYK" or "LAB" as "RGB" in sRGB; a profile that cannot be used is ignored."""
    from PIL import ImageCms

    if image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    elif profile:
        source = io.BytesIO(profile)
    else:
        return image if image.mode == "RGB" else image.convert("RGB")
    try:
        transform = ImageCms.buildTransform(
            source if image.mode == "LAB" else ImageCms.getOpenProfile(source),
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if image.mode == "RGB" and _is_identity(transform):
            return image
        return ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError) as error:
        if image.mode == "LAB":
            raise
        warnings.warn(f"{name}: the ICC profile is ignored ({error}).", stacklevel=3)
        return image.convert("RGB")


def _is_identity(transform: object) -> bool:
    """Whether an RGB transform moves no colour by more than rounding: the many spellings of sRGB.

    Skipping those keeps the pixels of most photographs exactly what any other reader gives.
    """
    import numpy as np
    from PIL import Image, ImageCms

    levels = np.linspace(0, 255, 16).astype(np.uint8)
    probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
    return int(np.abs(moved.astype(int) - probe).max()) <= 2
