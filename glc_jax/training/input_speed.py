"""How many crops a second one core cuts from pictures, and what they are cut from."""

import pathlib
import time
from typing import NamedTuple

import numpy as np
from PIL import Image

from glc_jax import images
from glc_jax.data.pipeline import Batches
from glc_jax.errors import InputError

QUALITY = 90  # of the JPEGs


class InputSpeed(NamedTuple):
    """images: crops cut. cpu_seconds: of all threads of this process, meanwhile."""

    images: int
    cpu_seconds: float

    @property
    def images_per_second(self) -> float:
        """Of one core that does nothing else."""
        return self.images / self.cpu_seconds


def write_jpegs(photos: list[pathlib.Path], folder: pathlib.Path, megapixels: float) -> None:
    """Each picture as a JPEG of so many megapixels, whatever its size was.

    Raises `InputError` where there is none.
    """
    if not photos:
        raise InputError("There are no pictures to make JPEGs of.")
    for number, photo in enumerate(photos):
        picture = Image.fromarray(images.read(photo, background="white"))
        factor = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
        size = (round(picture.width * factor), round(picture.height * factor))
        scaled = picture.resize(size, Image.Resampling.LANCZOS)
        scaled.save(folder / f"{number:04d}.jpg", quality=QUALITY)


def measure_input(batches: Batches, count: int) -> InputSpeed:
    """Read, decode and cut `count` batches in this thread, one after the other."""
    batches[0]  # what is only done once
    before = time.process_time()
    found = sum(len(batches[step]["image"]) for step in range(1, count + 1))
    return InputSpeed(found, max(time.process_time() - before, np.finfo(float).tiny))
