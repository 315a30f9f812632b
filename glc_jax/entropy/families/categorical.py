"""Indices of a codebook: equally likely, counted, or with logits for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from glc_jax.entropy import later
from glc_jax.entropy.families.base import Family
from glc_jax.entropy.group_coders import CategoricalCoder
from glc_jax.entropy.range_coder import counted_frequencies
from glc_jax.entropy.row_coders import LogitsCoder
from glc_jax.errors import WeightsError

jax, jnp = later.module("jax"), later.module("jax.numpy")


@dataclasses.dataclass(frozen=True)
class Categorical(Family):
    """`size` indices, log2(size) bits each; with frequencies in the weights, what they say.

    Training knows the uniform distribution alone: its bits are constant, and carry no gradient.
    `tables(counts=...)` makes the frequencies from how often each index occurred; without counts
    there are none. A file uses them (the coder's option) where that saves bytes.
    """

    size: int

    static: ClassVar[bool] = True
    discrete: ClassVar[bool] = True

    def bits(self, values: jax.Array) -> jax.Array:
        """log2(size) for each index."""
        return jnp.full(jnp.shape(values), np.log2(self.size), jnp.float32)

    def tables(self, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """{"frequencies": int32 [size]} of counts [size] (half a count is added to each)."""
        if counts is None:
            return {}
        counts = np.asarray(counts, np.int64)
        if counts.shape != (self.size,) or (counts < 0).any():
            raise ValueError(f"counts must be {self.size} numbers that are not negative")
        return {"frequencies": counted_frequencies(counts).astype(np.int32)}

    def coder(self, arrays: Mapping[str, np.ndarray]) -> CategoricalCoder:
        """See `Family.coder`."""
        try:
            return CategoricalCoder(self.size, arrays.get("frequencies"))
        except (TypeError, ValueError) as error:
            raise WeightsError(f"A prior of z is malformed: {error}.") from error


@dataclasses.dataclass(frozen=True)
class CategoricalLogits(Family):
    """`size` indices with the probabilities softmax(logits), logits [..., size] of each index."""

    size: int

    parameters: ClassVar[tuple[str, ...]] = ("logits",)
    discrete: ClassVar[bool] = True

    def width(self, parameter: str) -> int:
        """`size` logits for each index."""
        return super().width(parameter) * self.size

    def start(self) -> Mapping[str, float]:
        """Equal logits."""
        return {"logits": 0.0}

    def bits(self, values: jax.Array, *, logits: jax.Array) -> jax.Array:
        """Cross-entropy: indices [...] and logits [..., size] -> bits [...]."""
        log_prob = jax.nn.log_softmax(logits, axis=-1)
        indices = jnp.asarray(values).astype(jnp.int32)[..., None]
        return -np.log2(np.e) * jnp.take_along_axis(log_prob, indices, axis=-1)[..., 0]

    def coder(self, arrays: Mapping[str, np.ndarray]) -> LogitsCoder:
        """It needs no arrays."""
        return LogitsCoder(self.size)
