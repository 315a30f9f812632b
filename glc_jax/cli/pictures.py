"""Pictures that a command reads, within its limits, and those that it writes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from glc_jax import images
from glc_jax.cli import messages, streams
from glc_jax.cli.jobs import STDIO, Job, UsageError
from glc_jax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from glc_jax.codec import Codec


def check_background(color: str | None) -> None:
    """Raises UsageError where --background is no colour."""
    if color is not None:
        try:
            images.parse_color(color)
        except InputError as error:
            raise UsageError(f"--background: {error}") from error


def read(
    job: Job, options: argparse.Namespace, load: Callable[[], Codec], *operations: str
) -> np.ndarray:
    """The picture of a job: uint8 [height, width, 3].

    load: gives the codec, which is asked whether what is to be done (`memory.Operation`s) fits into
    memory before the picture is decoded.

    Raises:
      InputError: as `images.read`. TooLargeError: it does not fit.
    """
    source = streams.picture(job.source)
    if images.was_coded(source):
        messages.warn(f"{job.source}: was compressed by glc before; each time loses more.")

    def fits(height: int, width: int) -> None:
        for operation in operations:
            load().require_memory(height, width, operation)

    return images.read(
        source, max_pixels=options.max_pixels, background=options.background, fits=fits
    )


def check_format(job: Job, options: argparse.Namespace) -> None:
    """Raises OutputError where the output's name is of no format, or of one without --quality."""
    images.picture_format(_name(job), options.quality)


def write(job: Job, image: np.ndarray, options: argparse.Namespace) -> None:
    """Writes a picture in the format that the output's name says; raises OutputError."""
    job.write(images.encode(image, _name(job), options.quality))


def _name(job: Job) -> str:
    return "out.png" if job.target == STDIO else job.target
