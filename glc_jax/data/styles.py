"""Pieces of paintings, drawings or whatever else a picture is to look like."""

import numpy as np
from PIL import Image

from glc_jax.data.augment import random_crop
from glc_jax.data.sources import Source
from glc_jax.errors import ConfigError, InputError

SHOWN = (0.3, 0.9)
"""Which share of a style's shorter side a piece shows, from and to."""


class Styles:
    """A random piece of a random style, whatever the picture beside it: uint8 [crop, crop, 3].

    Styles of any size; small ones are enlarged. One that cannot be read is skipped. Raises
    `ConfigError` where none can be.
    """

    def __init__(self, source: Source, crop: int):
        self.source, self.crop = source, crop

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        first = rng.integers(len(self.source))
        for offset in range(len(self.source)):
            try:
                picture = self.source[(first + offset) % len(self.source)]
            except InputError:
                continue
            return self._piece(picture, rng)
        raise ConfigError(f"None of the {len(self.source)} styles can be read.")

    def _piece(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shorter = min(picture.shape[:2])
        if shorter < 2:
            return np.asarray(Image.fromarray(picture).resize((self.crop, self.crop)))
        factors = self.crop / (SHOWN[1] * shorter), self.crop / (SHOWN[0] * shorter)
        return random_crop(picture, self.crop, factors, True, rng)
