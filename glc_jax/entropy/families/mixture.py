"""Mixtures of location-scale distributions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from glc_jax.entropy import later
from glc_jax.entropy.families.base import Family
from glc_jax.entropy.families.location_scale import Gaussian, Laplace, LocationScale, Logistic
from glc_jax.entropy.row_coders import MixtureCoder
from glc_jax.entropy.tables import integers
from glc_jax.errors import WeightsError

jax, jnp = later.module("jax"), later.module("jax.numpy")
bounds = later.module("glc_jax.entropy.bounds")
distributions = later.module("glc_jax.entropy.distributions")

_COMPONENTS: dict[str, type[LocationScale]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "logistic": Logistic,
}
_LOG2_E = 1.4426950408889634
_GRID = 32 * 256  # the survival function is stored up to 32 scales, in steps of 1 / 256
_ESCAPED = 2.0**-14


@dataclasses.dataclass(frozen=True)
class Mixture(Family):
    """K components, each with a weight (a logit), a mean and a scale.

    Each parameter has K values for an element, side by side: [..., C * K]. The values are rounded
    about 0, as no single mean could be subtracted. The probabilities of a file come from integers
    on the fly (`row_coders.MixtureCoder`).

    Attributes:
      components: K.
      component: "gaussian", "laplace" or "logistic".
      smallest_scale: what scales are bounded by from below, with a live gradient.
    """

    components: int = 3
    component: str = "gaussian"
    smallest_scale: float = 1e-6

    parameters: ClassVar[tuple[str, ...]] = ("weight", "mean", "scale")

    def __post_init__(self) -> None:
        if self.component not in _COMPONENTS or self.components < 1:
            raise ValueError(
                f"there is no mixture of {self.components} {self.component!r}, only of 1 or more "
                f"of {', '.join(_COMPONENTS)}"
            )

    @property
    def _family(self) -> LocationScale:
        return _COMPONENTS[self.component](self.smallest_scale)

    def width(self, parameter: str) -> int:
        """K, of each."""
        return super().width(parameter) * self.components

    def start(self) -> Mapping[str, float | tuple[float, ...]]:
        """Equal weights, means spread over -1 .. 1, scales 1: components that differ."""
        count = self.components
        means = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
        return {"weight": (0.0,) * count, "mean": tuple(means.tolist()), "scale": (1.0,) * count}

    def _split(
        self, weight: jax.Array, mean: jax.Array, scale: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[..., C * K] -> [..., C, K] each, scales bounded."""
        weight, mean, scale = (
            jnp.asarray(p).reshape(*p.shape[:-1], -1, self.components)
            for p in (weight, mean, scale)
        )
        return weight, mean, bounds.lower_bound(scale, self.smallest_scale)

    def spread(self, *, weight: jax.Array, mean: jax.Array, scale: jax.Array) -> jax.Array:
        """sqrt(E[scale^2 + mean^2] - E[mean]^2) over the components."""
        weight, mean, scale = self._split(weight, mean, scale)
        share = jax.nn.softmax(weight, axis=-1)
        middle = jnp.sum(share * mean, axis=-1, keepdims=True)
        return jnp.sqrt(jnp.sum(share * (scale**2 + (mean - middle) ** 2), axis=-1))

    def bits(
        self, values: jax.Array, *, weight: jax.Array, mean: jax.Array, scale: jax.Array
    ) -> jax.Array:
        """See `Family.bits`: values [..., C], the parameters [..., C * K] each."""
        weight, mean, scale = self._split(weight, mean, scale)
        standard = self._family.standard()
        logs = distributions.bin_log_prob(values[..., None] - mean, scale, standard)
        logs += jax.nn.log_softmax(weight, axis=-1)
        return -_LOG2_E * jax.nn.logsumexp(logs, axis=-1)

    def trainable(self) -> Self:
        """With scales bounded as the component's."""
        return dataclasses.replace(self, smallest_scale=self._family.trainable().smallest_scale)

    def tables(self) -> dict[str, np.ndarray]:
        """The component's survival function at scale 1, in units of 2^-30 and steps of 1 / 256."""
        (log_survival,) = self._family.log_survivals()
        survival = np.exp(log_survival(np.arange(_GRID + 1) / 256))
        reach = int((2 * survival >= _ESCAPED).sum())
        smallest = max(1, int(np.ceil(self.smallest_scale * 2**16)))
        return {
            "survival": np.rint(survival * 2**30).astype(np.int32),
            "reach": np.array(reach, np.int32),
            "smallest": np.array(smallest, np.int32),
        }

    def coder(self, arrays: Mapping[str, np.ndarray]) -> MixtureCoder:
        """See `Family.coder`."""
        survival, reach, smallest = integers(arrays, "survival", "reach", "smallest")
        sound = survival.ndim == 1 and 2 <= survival.size <= _GRID + 1
        sound = sound and (np.diff(survival) <= 0).all() and survival[-1] >= 0
        sound = sound and survival[0] == 1 << 29 and reach.shape == smallest.shape == ()
        if not sound or not 1 <= reach <= _GRID or not 1 <= smallest <= 1 << 26:
            raise WeightsError("The tables of a mixture are malformed.")
        return MixtureCoder(survival, int(reach), int(smallest))
