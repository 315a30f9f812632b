"""What a family of distributions is: bits for training, integers for the coder, one definition.

A family is a frozen dataclass without arrays: hashable, comparable, a plain value of a config. It
says what its parameters are called; whoever computes them (a network, constants of the model) and
wherever they are integers, the names are the same.

    quantity     in training                        in a file
    symbols      float stand-ins of integers        integers
    parameters   arrays, float                      integers and their exponents
    cost         family.bits(symbols, ...)          family.coder(arrays): a GroupCoder

A test of every family holds that both costs are the same within 0.1 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from glc_jax.entropy import later
from glc_jax.entropy.group_coders import GroupCoder
from glc_jax.entropy.tables import PRECISION

if TYPE_CHECKING:
    import jax

jnp = later.module("jax.numpy")


@dataclasses.dataclass(frozen=True)
class Family:
    """Base of all families.

    Attributes:
      parameters: the names that `bits` and `centre` take as keywords.
      static: whether the parameters are constants of the model, one set per channel. The tables
        of a static family are made at export, from `tables(**constants)`.
      discrete: whether the values are indices 0, 1, ... rather than numbers to be rounded.
    """

    parameters: ClassVar[tuple[str, ...]] = ()
    static: ClassVar[bool] = False
    discrete: ClassVar[bool] = False

    def width(self, parameter: str) -> int:
        """How many values of `parameter` an element of the latent takes; the last axis of the
        parameter is that many times the latent's, an element's values side by side."""
        if parameter not in self.parameters:
            raise KeyError(parameter)
        return 1

    def start(self) -> Mapping[str, float | tuple[float, ...]]:
        """Where each parameter should begin in training: one number, or `width` of them."""
        return {}

    def init(self, key: jax.Array, channels: int) -> dict[str, jax.Array]:
        """Of a static family, the first values of its parameters, each [channels, ...]."""
        return {}

    def centre(self, **parameters: jax.Array) -> jax.Array | float:
        """What is subtracted from the values before they are rounded."""
        return 0.0

    def spread(self, **parameters: jax.Array) -> jax.Array | None:
        """The scale of each value's distribution, of the values' shape; None: it has none.

        A quantiser may use it (`quantize.Moment`).
        """
        return None

    def bits(self, values: jax.Array, **parameters: jax.Array) -> jax.Array:
        """What an ideal coder spends on each value, in bits: differentiable, of values' shape.

        `values` are rounded, or stand-ins of rounded values, less the `centre`.
        """
        raise NotImplementedError

    def estimate(self, symbols: jax.Array, **parameters: jax.Array) -> jax.Array:
        """What reports print as the bits of each symbol: `bits`, where nothing else is published.

        Of numbers at most 24: a table gives no symbol less than 1 of 2^24, where the tail of
        `bits` has no end and a narrow distribution would count one symbol as millions of bits.
        `symbols` are rounded values.
        """
        bits = self.bits(symbols, **parameters)
        return bits if self.discrete else jnp.minimum(bits, PRECISION)

    def trainable(self) -> Self:
        """The family with bounds under which the gradients of a training run stay reasonable."""
        return self

    def tables(self, **constants: np.ndarray) -> dict[str, np.ndarray]:
        """What a weights file keeps for the coder: integer arrays that `coder` reads.

        `constants` are the parameters of a static family, and of no other.
        """
        return {}

    def coder(self, arrays: Mapping[str, np.ndarray]) -> GroupCoder:
        """The coder of these arrays, which are not trusted.

        Raises WeightsError where they are not what `tables` gives.
        """
        raise NotImplementedError
