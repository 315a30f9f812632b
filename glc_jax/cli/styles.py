"""What `glc decompress --style` and `glc stylise` share: the picture of the style, its options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from glc_jax import images
from glc_jax.cli import pictures, process, streams
from glc_jax.cli.jobs import UsageError

if TYPE_CHECKING:
    import numpy as np

    from glc_jax.weights import Description


def check_options(options: argparse.Namespace) -> None:
    """Raises UsageError for options that need --style, without it; sets the strength's default."""
    if options.style is None:
        given = {
            "--style-strength": options.style_strength,
            "--stylist": options.stylist,
            "--background": options.background,
        }
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name}: goes with --style PICTURE, which is not given.")
    pictures.check_background(options.background)
    if options.style_strength is None:
        options.style_strength = 1.0


def check_stylist(name_or_path: str | None, model: Description | None) -> None:
    """Raises WeightsError where --stylist is no stylist, or not one of this model.

    model: None where each .glc file names its own, with which it is then compared.
    """
    from glc_jax import companions

    if model is not None:
        companions.find(companions.STYLIST, model, name_or_path)
    elif name_or_path is not None:
        companions.describe(companions.STYLIST, name_or_path)


def read(options: argparse.Namespace) -> np.ndarray:
    """The picture of --style: uint8 [height, width, 3]; raises InputError as `images.read`."""
    process.prepare_jax(options.device)  # it may be a .glc file
    source = streams.picture(options.style)
    return images.read(source, max_pixels=options.max_pixels, background=options.background)


def files(options: argparse.Namespace) -> list[str]:
    """Those that no output may replace."""
    return [name for name in (options.style, options.stylist) if name is not None]
