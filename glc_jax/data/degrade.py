"""What spoils a photograph: blur, lost pixels, noise, lossy coding.

Each is a function of the picture, a strength and a random generator; a name and a number say which
(`noise25`). Training draws them (`Recipe`), evaluation names them (`parse`). After Zhang et al.,
"Designing a practical degradation model for deep blind image super-resolution" (arXiv 2103.14006):
random kinds in random order.
"""

import dataclasses
import io
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage, signal

from glc_jax.errors import ConfigError

Spoil = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(float32 [H, W, 3] of 0 to 255, strength, random generator) -> the same, not clipped."""

FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


class Degradation(NamedTuple):
    """One kind, from the weakest to the strongest strength that training draws, and their unit."""

    spoil: Spoil
    weakest: float
    strongest: float
    unit: str


def noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation `sigma`, of 255."""
    return image + sigma * rng.standard_normal(image.shape, np.float32)


def grain(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """The same noise in all three colours, as of film."""
    return image + sigma * rng.standard_normal((*image.shape[:2], 1), np.float32)


def poisson(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Shot noise of a sensor; `sigma`, of 255, is its standard deviation in white."""
    photons = (255 / sigma) ** 2  # in white
    scale = photons / 255
    return (rng.poisson(np.clip(image, 0, 255) * scale) / scale).astype(np.float32)


def blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian of standard deviation `sigma` pixels."""
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def smear(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian of `sigma` pixels in a random direction and less, as random, across it."""
    angle, across = rng.uniform(0, np.pi), sigma * rng.uniform(0.1, 0.8)
    radius = int(np.ceil(3 * sigma))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / sigma) ** 2 + (v / across) ** 2))
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    kernel = (kernel / kernel.sum()).astype(np.float32)[..., None]
    return signal.oaconvolve(padded, kernel, mode="valid", axes=(0, 1)).astype(np.float32)


def box(image: np.ndarray, side: float, rng: np.random.Generator) -> np.ndarray:
    """Means over `side` x `side` pixels (rounded to an odd number)."""
    side = 2 * round((side - 1) / 2) + 1
    return ndimage.uniform_filter(image, (side, side, 1), mode="nearest")


def down(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """To 1 / `factor` of the height and width and back, bicubic."""
    return _resampled(image, factor, Image.Resampling.BICUBIC, Image.Resampling.BICUBIC)


def resample(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """The same with a random filter each way."""
    one, other = rng.integers(len(FILTERS), size=2)
    return _resampled(image, factor, FILTERS[one], FILTERS[other])


def jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of a quality from 1 to 95."""
    return _coded(image, "JPEG", quality)


def webp(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Lossy WebP of a quality from 0 to 100."""
    return _coded(image, "WEBP", quality)


DEGRADATIONS = {
    "noise": Degradation(noise, 2, 40, "standard deviation of 255"),
    "grain": Degradation(grain, 2, 30, "standard deviation of 255"),
    "poisson": Degradation(poisson, 3, 40, "standard deviation of 255 in white"),
    "blur": Degradation(blur, 0.4, 3.2, "standard deviation in pixels"),
    "smear": Degradation(smear, 0.8, 4, "standard deviation in pixels"),
    "box": Degradation(box, 3, 7, "pixels a side"),
    "down": Degradation(down, 1.2, 4, "factor"),
    "resample": Degradation(resample, 1.2, 4, "factor"),
    "jpeg": Degradation(jpeg, 80, 5, "quality"),
    "webp": Degradation(webp, 80, 1, "quality"),
}

_LIMITS = {"jpeg": (1, 95), "webp": (0, 100), "down": (1, 16), "box": (1, 63)}
_LARGEST = {"noise": 255, "grain": 255, "poisson": 255, "blur": 20, "smear": 20, "resample": 16}
_NAMED = re.compile(r"([a-z]+)(\d+(?:\.\d+)?)")


@dataclasses.dataclass(frozen=True)
class Named:
    """One degradation of one strength; the same noise for the same picture every time."""

    name: str
    kind: str
    strength: float

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [H, W, 3]."""
        rng = np.random.default_rng(0)
        spoiled = DEGRADATIONS[self.kind].spoil(image.astype(np.float32), self.strength, rng)
        return _to_pixels(spoiled)


def parse(name: str) -> Named:
    """The degradation that "noise25", "blur1.5" or "jpeg10" names; raises `ConfigError`."""
    found = _NAMED.fullmatch(name)
    if found is None or found[1] not in DEGRADATIONS:
        kinds = ", ".join(DEGRADATIONS)
        raise ConfigError(
            f"There is no degradation {name!r}: one of {kinds}, followed by its strength, as in "
            "noise25 or jpeg10."
        )
    kind, strength = found[1], float(found[2])
    low, high = _LIMITS.get(kind, (0, _LARGEST.get(kind)))
    if not low <= strength <= high or (strength == 0 and kind not in _LIMITS):
        raise ConfigError(
            f"The degradation {name!r}: {kind} has a strength ({DEGRADATIONS[kind].unit}) of "
            f"{'more than 0' if low == 0 and kind not in _LIMITS else low} to {high}."
        )
    return Named(name, kind, strength)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What training does to its pictures: shares of 1, and how many degradations one may have.

    clean: of those that stay as they are, so that good pictures are left alone. single: of the
    others, with one degradation; the rest has two to `most` of different kinds, in random order.
    kinds: which, as in `DEGRADATIONS`, equally often.
    """

    clean: float = 0.15
    single: float = 0.6
    most: int = 3
    kinds: tuple[str, ...] = tuple(DEGRADATIONS)

    def check(self) -> None:
        """Raises `ConfigError` for what cannot be drawn."""
        unknown = [kind for kind in self.kinds if kind not in DEGRADATIONS]
        if unknown or not self.kinds:
            raise ConfigError(
                f"degrade.kinds is {list(self.kinds)}; there are {', '.join(DEGRADATIONS)}."
            )
        if not (0 <= self.clean <= 1 and 0 <= self.single <= 1):
            raise ConfigError("degrade.clean and degrade.single must be shares, from 0 to 1.")
        if self.most < 1:
            raise ConfigError(f"degrade.most is {self.most}; it must be at least 1.")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [H, W, 3], spoiled as the generator has it."""
        if rng.random() < self.clean:
            return image
        several = rng.random() >= self.single and min(self.most, len(self.kinds)) > 1
        count = rng.integers(2, min(self.most, len(self.kinds)) + 1) if several else 1
        spoiled = image.astype(np.float32)
        for kind in rng.permutation(len(self.kinds))[:count]:
            one = DEGRADATIONS[self.kinds[kind]]
            strength = rng.uniform(*sorted((one.weakest, one.strongest)))
            spoiled = np.clip(one.spoil(spoiled, strength, rng), 0, 255)
        return _to_pixels(spoiled)


def _to_pixels(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _resampled(
    image: np.ndarray, factor: float, down: Image.Resampling, up: Image.Resampling
) -> np.ndarray:
    height, width = image.shape[:2]
    small = max(round(width / factor), 1), max(round(height / factor), 1)
    planes = (Image.fromarray(plane) for plane in np.moveaxis(image, 2, 0))
    back = (plane.resize(small, down).resize((width, height), up) for plane in planes)
    return np.stack([np.asarray(plane) for plane in back], axis=-1)


def _coded(image: np.ndarray, form: str, quality: float) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(_to_pixels(image)).save(buffer, form, quality=round(quality))
    return np.asarray(Image.open(buffer).convert("RGB"), np.float32)
