"""Families with a mean and a scale: Gaussian, Laplace, logistic.

The mean is subtracted before rounding, so the residuals are symmetric about 0 and their tables
depend on the scale alone: 16 an octave, picked by integer comparison (`tables`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import numpy as np

from glc_jax.entropy import distributions, tables
from glc_jax.entropy.bounds import lower_bound
from glc_jax.entropy.distributions import Standard
from glc_jax.entropy.families.base import Family
from glc_jax.entropy.group_coders import TableCoder


@dataclasses.dataclass(frozen=True)
class LocationScale(Family):
    """A symmetric distribution, moved and stretched.

    Attributes:
      smallest_scale: what scales are bounded by from below in `bits`; the gradient still passes
        where it would make a scale larger.
      training_scale: the smallest scale that `trainable` allows: all but about 5e-6 of the
        residuals are 0 there, so a smaller one saves nothing, while a residual that is not 0
        would cost, and push, without bound.
    """

    smallest_scale: float = 1e-6

    parameters: ClassVar[tuple[str, ...]] = ("scale", "mean")
    training_scale: ClassVar[float]

    def standard(self) -> Standard:
        """The distribution at scale 1."""
        raise NotImplementedError

    def start(self) -> Mapping[str, float]:
        """Scale 1, mean 0."""
        return {"scale": 1.0, "mean": 0.0}

    def centre(self, *, mean: jax.Array, **_: jax.Array) -> jax.Array:
        """The mean."""
        return mean

    def bits(self, values: jax.Array, *, scale: jax.Array, **_: jax.Array) -> jax.Array:
        """See `Family.bits`: of residuals, whatever their mean."""
        scale = lower_bound(scale, self.smallest_scale)
        return distributions.bin_bits(values, scale, self.standard())

    def trainable(self) -> Self:
        """With scales bounded by `training_scale`."""
        bound = max(self.smallest_scale, self.training_scale)
        return dataclasses.replace(self, smallest_scale=bound)


@dataclasses.dataclass(frozen=True)
class Gaussian(LocationScale):
    """N(mean, scale^2), as in GLC. Its tables ship with the package."""

    training_scale: ClassVar[float] = 0.11

    def standard(self) -> Standard:
        """The normal distribution."""
        return distributions.GAUSSIAN

    def estimate(self, symbols: jax.Array, *, scale: jax.Array, **_: jax.Array) -> jax.Array:
        """The published estimate, which never gives a symbol more than 16.6 bits."""
        return distributions.gaussian_bits(symbols, scale)

    def coder(self, arrays: Mapping[str, np.ndarray]) -> TableCoder:
        """The packaged tables, or those of the arrays."""
        own = tables.ScaleTables.from_arrays(arrays) if arrays else tables.gaussian()
        return TableCoder(own)
