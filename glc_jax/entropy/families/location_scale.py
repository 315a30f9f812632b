"""Families with a mean and a scale, perhaps a shape: Gaussian, Laplace, logistic and more.

The mean is subtracted before rounding, so the residuals are symmetric about 0 and their tables
depend on the scale and the shape alone: 16 an octave of scales and 8 an octave of shapes, picked
by integer comparison (`tables`). Scales above 64 share the tables of 64: their escapes take over.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from glc_jax.entropy import later, table_making, tables
from glc_jax.entropy.families.base import Family
from glc_jax.entropy.group_coders import TableCoder
from glc_jax.entropy.integer import x64

if TYPE_CHECKING:
    from glc_jax.entropy.distributions import Standard

jax, jnp = later.module("jax"), later.module("jax.numpy")
bounds = later.module("glc_jax.entropy.bounds")
distributions = later.module("glc_jax.entropy.distributions")
heavy_tails = later.module("glc_jax.entropy.heavy_tails")


@dataclasses.dataclass(frozen=True)
class LocationScale(Family):
    """A symmetric distribution, moved and stretched. A new one says its `standard`.

    Attributes:
      smallest_scale: what scales are bounded by from below in `bits`; the gradient still passes
        where it would make a scale larger.
      training_scale: the smallest scale that `trainable` allows: all but a few millionths of the
        residuals are 0 there, so a smaller one saves nothing, while a residual that is not 0
        would cost, and push, without bound. It is that of the first table after table 0.
      shapes: the shapes that have tables, increasing, evenly in the logarithm, where the family
        has a parameter "shape".
    """

    smallest_scale: float = 1e-6

    parameters: ClassVar[tuple[str, ...]] = ("scale", "mean")
    shapes: ClassVar[tuple[float, ...]] = ()

    def standard(self) -> Standard:
        """The distribution at scale 1."""
        raise NotImplementedError

    @functools.cached_property
    def training_scale(self) -> float:
        """See the class."""
        return table_making.smallest_scale(self.log_survivals()[0])

    def start(self) -> Mapping[str, float]:
        """Scale 1, mean 0."""
        return {"scale": 1.0, "mean": 0.0}

    def centre(self, *, mean: jax.Array, **_: jax.Array) -> jax.Array:
        """The mean."""
        return mean

    def spread(self, *, scale: jax.Array, **_: jax.Array) -> jax.Array:
        """The scale, bounded from below."""
        return bounds.lower_bound(jnp.asarray(scale), self.smallest_scale)

    def bits(self, values: jax.Array, *, scale: jax.Array, **_: jax.Array) -> jax.Array:
        """See `Family.bits`: of residuals, whatever their mean."""
        scale = bounds.lower_bound(jnp.asarray(scale), self.smallest_scale)
        return distributions.bin_bits(values, scale, self.standard())

    def trainable(self) -> Self:
        """With scales bounded by `training_scale`."""
        bound = max(self.smallest_scale, self.training_scale)
        return dataclasses.replace(self, smallest_scale=bound)

    def tables(self) -> dict[str, np.ndarray]:
        """See `Family.tables`: of all scales and shapes, from the survival function in float64."""
        shapes = np.array(self.shapes) if self.shapes else None
        return table_making.tables_of_scales(self.log_survivals(), shapes).to_arrays()

    def coder(self, arrays: Mapping[str, np.ndarray]) -> TableCoder:
        """See `Family.coder`."""
        return TableCoder(tables.ScaleTables.from_arrays(arrays))

    def log_survivals(self) -> list[table_making.LogSurvival]:
        """The survival functions from which tables are made, one for each shape, in float64."""
        log_survival = jax.jit(self.standard().log_survival)

        def at(*shape: float) -> table_making.LogSurvival:
            def in_float64(x: np.ndarray) -> np.ndarray:
                with jax.ensure_compile_time_eval(), x64():
                    return np.asarray(log_survival(np.float64(x), *map(np.float64, shape)))

            return in_float64

        return [at(shape) for shape in self.shapes] or [at()]


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

    def tables(self) -> dict[str, np.ndarray]:
        """None of its own."""
        return {}

    def coder(self, arrays: Mapping[str, np.ndarray]) -> TableCoder:
        """The packaged tables, or those of the arrays."""
        return super().coder(arrays) if arrays else TableCoder(tables.gaussian())


@dataclasses.dataclass(frozen=True)
class Laplace(LocationScale):
    """Density exp(-|x - mean| / scale) / (2 scale)."""

    def standard(self) -> Standard:
        """Laplace's distribution."""
        return distributions.LAPLACE


@dataclasses.dataclass(frozen=True)
class Logistic(LocationScale):
    """P(X < x) = 1 / (1 + exp(-(x - mean) / scale))."""

    def standard(self) -> Standard:
        """The logistic distribution."""
        return distributions.LOGISTIC


@dataclasses.dataclass(frozen=True)
class StudentT(LocationScale):
    """Student's t, whose tails fall like |x - mean|^-(degrees + 1): outliers cost little.

    `degrees` of freedom, 1 (Cauchy) to 16, are the same for all elements.
    """

    degrees: float = 4.0

    def __post_init__(self) -> None:
        heavy_tails.student_t(float(self.degrees))

    def standard(self) -> Standard:
        """Student's t distribution."""
        return heavy_tails.student_t(float(self.degrees))


@dataclasses.dataclass(frozen=True)
class GeneralisedGaussian(LocationScale):
    """Density proportional to exp(-|(x - mean) / scale|^shape), with a shape for each element.

    Shape 1 is Laplace, shape 2 a Gaussian of standard deviation scale / sqrt(2). Shapes are
    bounded to 0.5 .. 4, with a live gradient.

    `training_scales`, of each of `shapes`, are what a `trainable` family bounds the scales by, in
    between interpolated.
    """

    training_scales: tuple[float, ...] = ()

    parameters: ClassVar[tuple[str, ...]] = ("scale", "mean", "shape")
    shapes: ClassVar[tuple[float, ...]] = tuple(2.0 ** (i / 8) for i in range(-8, 17))

    def standard(self) -> Standard:
        """The generalised Gaussian."""
        return heavy_tails.GENERALISED_GAUSSIAN

    def bits(
        self, values: jax.Array, *, scale: jax.Array, shape: jax.Array, **_: jax.Array
    ) -> jax.Array:
        """See `Family.bits`: of residuals, whatever their mean."""
        scale, shape = jnp.asarray(scale), jnp.asarray(shape)
        shape = bounds.upper_bound(bounds.lower_bound(shape, self.shapes[0]), self.shapes[-1])
        smallest = self.smallest_scale
        if self.training_scales:
            grid, logs = np.log2(self.shapes), np.log2(self.training_scales)
            smallest = jnp.exp2(jnp.interp(jnp.log2(jax.lax.stop_gradient(shape)), grid, logs))
        scale = bounds.lower_bound(scale, smallest)
        return distributions.bin_bits(values, scale, self.standard(), shape)

    def trainable(self) -> Self:
        """With scales bounded by `training_scales`."""
        scales = map(table_making.smallest_scale, self.log_survivals())
        return dataclasses.replace(self, training_scales=tuple(scales))

    def start(self) -> Mapping[str, float]:
        """Scale 1, mean 0, shape 1.5: between Laplace and Gauss."""
        return {**super().start(), "shape": 1.5}
