"""Finite scalar quantisation of z (Mentzer et al. 2023, arXiv 2309.15505): no codebook to learn."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.entropy.codebooks import FiniteScalar
from glc_jax.models.hyperprior import Hyperprior
from glc_jax.models.layers import conv1x1

# For alphabets of so many codes: those of 240 and more as published (table 1), small ones ours.
LEVELS = ((5, 3), (5, 5), (8, 8), (8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5))


class ScalarsQuantized(NamedTuple):
    """quantized: codes [B, h, w, D] with a straight-through gradient. indices: int32 [B, h, w]."""

    quantized: jax.Array
    indices: jax.Array


class FiniteScalarHyperprior(Hyperprior):
    """z projected to a few channels, each rounded to one of a few levels.

    Attributes:
      levels: of each channel; (): those of the largest alphabet in `LEVELS` that does not exceed
        `codebook_size`.
    """

    levels: tuple[int, ...] = ()

    def setup(self):
        super().setup()
        self.project = conv1x1(len(self._scalar().levels), self.dtype, None)
        self.expand = conv1x1(self.channels, self.dtype, None)

    @nn.nowrap
    def _scalar(self) -> FiniteScalar:
        if self.levels:
            return FiniteScalar(tuple(self.levels))
        fitting = [levels for levels in LEVELS if np.prod(levels) <= self.codebook_size]
        return FiniteScalar((fitting or LEVELS)[-1 if fitting else 0])

    @nn.nowrap
    def alphabet(self) -> int:
        """The product of the levels."""
        return self._scalar().size

    def targets(self, y: jax.Array) -> dict[str, jax.Array]:
        """y [B, H, W, C] -> z [B, H/4, W/4, D], not yet bounded."""
        return {"z": self.project(self.h_a(y))}

    def quantise(self, z: jax.Array) -> ScalarsQuantized:
        """The codes of z [B, h, w, D]."""
        scalar = self._scalar()
        codes = scalar(z)
        return ScalarsQuantized(codes, scalar.indices(codes))

    def embed(self, indices: jax.Array) -> jax.Array:
        """indices [B, h, w] -> codes [B, h, w, D], by a table: so it has an exact form."""
        scalar = self._scalar()
        table = scalar.codes(np.arange(scalar.size))
        return jnp.asarray(table)[indices]

    def prior_params(self, z_hat: jax.Array) -> jax.Array:
        """Codes [B, h, w, D] -> [B, 4h, 4w, (1 + P) C]: quant_step (not clamped), parameters."""
        return super().prior_params(self.expand(z_hat))
