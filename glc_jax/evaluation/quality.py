"""The metrics of one evaluation: of pairs of pictures, and of the sets of all their patches."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import memory
from glc_jax.errors import ConfigError, WeightsError
from glc_jax.metrics import dists, fid, kid, lpips, lpips_weights, ms_ssim, patches, psnr
from glc_jax.metrics.features import alexnet, inception, vgg16


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is shown and compared; published is its name in published_rd.csv."""

    name: str
    label: str
    higher_is_better: bool
    decimals: int
    published: str | None = None
    unit: str = ""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", True, 2, "PSNR", "dB"),
        Metric("ms_ssim", "MS-SSIM", True, 4, "MS-SSIM"),
        Metric("lpips", "LPIPS (Alex)", False, 4, "LPIPS"),
        Metric("lpips_vgg", "LPIPS (VGG)", False, 4),
        Metric("dists", "DISTS", False, 4, "DISTS"),
        Metric("fid", "FID", False, 2, "FID"),
        Metric("kid", "KID", False, 5, "KID"),
    )
}
PAIR_METRICS = ("psnr", "ms_ssim", "lpips", "lpips_vgg", "dists")
SET_METRICS = ("fid", "kid")
DEFAULT_PAIR_METRICS = ("psnr", "ms_ssim", "lpips", "dists")

_MIN_SIZES = {
    "psnr": 1,
    "ms_ssim": ms_ssim.MIN_SIZE,
    "lpips": alexnet.MIN_SIZE,
    "lpips_vgg": vgg16.MIN_SIZE,
    "dists": vgg16.MIN_SIZE,
}
BYTES_PER_PIXEL = {"psnr": 24, "ms_ssim": 180, "lpips": 110, "lpips_vgg": 1050, "dists": 1580}
"""What each metric of pairs takes, from XLA's account of its CPU programs, and 2 % more."""

_INCEPTION_BATCH = 16


class PairMeter:
    """Measures reconstructions against originals.

    names: the metrics that are measured; notes: a sentence for each that cannot be, and why.
    """

    def __init__(
        self, names: Iterable[str] = DEFAULT_PAIR_METRICS, max_memory: int | None = None
    ) -> None:
        """Raises ConfigError for a name that is no metric of pairs; max_memory in bytes."""
        self._max_memory = max_memory
        self.notes: list[str] = []
        self._functions: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {}
        for name in names:
            if name not in PAIR_METRICS:
                raise ConfigError(
                    f"There is no metric {name!r}; choose from {', '.join(PAIR_METRICS)}."
                )
            try:
                self._functions[name] = _pair_function(name)
            except WeightsError as error:
                self.notes.append(f"{METRICS[name].label} was not computed: {error}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._functions)

    def measure(self, original: np.ndarray, shown: np.ndarray) -> dict[str, float | None]:
        """Metric -> value for uint8 [H, W, 3] pictures; None where the picture is too small for
        the metric or the value is not finite (the PSNR of equal pictures). Raises TooLargeError
        where a metric needs more memory than there is."""
        height, width = original.shape[:2]
        smallest = min(height, width)
        for name in self._functions:
            needed = BYTES_PER_PIXEL[name] * height * width
            purpose = f"for {METRICS[name].label}, which --metrics can leave out"
            memory.require(needed, self._max_memory, height, width, purpose)
        values = {}
        for name, function in self._functions.items():
            value = math.nan
            if smallest >= _MIN_SIZES[name]:
                value = float(function(original[None], shown[None])[0])
            values[name] = value if math.isfinite(value) else None
        return values


def _pair_function(name: str) -> Callable:
    if name == "psnr":
        return _compiled(psnr.psnr)
    if name == "ms_ssim":
        return _compiled(lambda x, y: ms_ssim.ms_ssim(_unit(x), _unit(y)))
    if name == "dists":
        return functools.partial(
            _compiled(lambda p, x, y: dists.dists(p, _unit(x), _unit(y))), _on_device(dists.load())
        )
    params = _on_device(lpips_weights.load("vgg" if name == "lpips_vgg" else "alex"))
    return functools.partial(
        _compiled(lambda p, x, y: lpips.lpips(p, 2 * _unit(x) - 1, 2 * _unit(y) - 1)), params
    )


def _compiled(function: Callable) -> Callable:
    """Compiled, in full float32 also where the device's default is less."""

    def in_full_precision(*arguments: Any) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return jax.jit(in_full_precision)


def _unit(pixels: jax.Array) -> jax.Array:
    return pixels.astype(jnp.float32) / 255


def _on_device(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


class PatchFeatures:
    """Inception's features of a picture's patches."""

    def __init__(self, weights: Any, patch_size: int) -> None:
        """`weights` is what `inception_weights.load` gives; patch_size in pixels."""
        self.patch_size = patch_size
        self._weights = _on_device(weights)
        self._function = _compiled(inception.features)

    def of(self, image: np.ndarray) -> np.ndarray:
        """float32 [patches, 2048] of a uint8 picture [H, W, 3], in batches of one size."""
        cut = patches.cut(image, self.patch_size)
        found = np.empty((len(cut), inception.FEATURES), np.float32)
        for start in range(0, len(cut), _INCEPTION_BATCH):
            batch = cut[start : start + _INCEPTION_BATCH]
            padding = ((0, _INCEPTION_BATCH - len(batch)), (0, 0), (0, 0), (0, 0))
            values = np.asarray(self._function(self._weights, np.pad(batch, padding)))
            found[start : start + len(batch)] = values[: len(batch)]
        return found


@dataclasses.dataclass(frozen=True)
class SetDistances:
    """FID and KID of one method at one point; None where there are too few patches."""

    patches: int
    fid: float | None
    kid: float | None
    kid_std: float | None


class FeatureSet:
    """The features of all patches of some pictures, and their Gaussian."""

    def __init__(self, sources: Iterable[Callable[[], np.ndarray]]) -> None:
        """Each source gives the features of one picture, [n, 2048]."""
        self.gaussian = fid.Gaussian(inception.FEATURES)
        parts = [np.empty((0, inception.FEATURES), np.float32)]
        for source in sources:
            parts.append(source())
            self.gaussian.update(parts[-1])
        self.features = np.concatenate(parts)


def set_distances(originals: FeatureSet, shown: FeatureSet) -> SetDistances:
    """FID, which needs 2 patches of each, and KID, which needs 1000 (its subsets' size)."""
    fewest = min(len(originals.features), len(shown.features))
    enough = fewest >= kid.SUBSET_SIZE
    kid_value = kid.kid(originals.features, shown.features) if enough else None
    return SetDistances(
        patches=len(shown.features),
        fid=fid.fid(originals.gaussian, shown.gaussian) if fewest >= fid.MIN_SAMPLES else None,
        kid=kid_value.mean if kid_value else None,
        kid_std=kid_value.std if kid_value else None,
    )
