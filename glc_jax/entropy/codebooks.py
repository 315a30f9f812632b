"""Vectors to indices: codebooks, their gradients and updates, and finite scalar quantisation."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.errors import ConfigError


def nearest(z: jax.Array, codebook: jax.Array) -> jax.Array:
    """Indices of the rows nearest by squared L2: [..., C] and [K, C] -> [...] int32."""
    z, codebook = z.astype(jnp.float32), codebook.astype(jnp.float32)
    # |z|^2 is the same for every row and left out.
    scores = jnp.sum(codebook**2, axis=1) - 2 * jnp.matmul(z, codebook.T, precision="highest")
    return jnp.argmin(scores, axis=-1).astype(jnp.int32)


def straight_through(z: jax.Array, rows: jax.Array) -> jax.Array:
    """rows, with the gradient passed to z unchanged (van den Oord et al. 2017): [..., C]."""
    return z + jax.lax.stop_gradient(rows - z)


def rotation(z: jax.Array, rows: jax.Array) -> jax.Array:
    """rows, with the gradient of the rotation and stretch that takes z to its row: [..., C].

    R = I - 2 r r^T + 2 q e^T, e and q the directions of z and of its row, r that of e + q; out =
    (|row| / |z|) R z with the factors held constant, so that the angle between the gradient and
    the row becomes that between the gradient and z (Fifty et al. 2024, arXiv 2410.06424, section
    4.2).
    """
    held_z, held_rows = jax.lax.stop_gradient((z, rows))
    length_z, length_row = _length(held_z), _length(held_rows)
    e, q = held_z / length_z, held_rows / length_row
    r = (e + q) / _length(e + q)
    along_r = jnp.sum(z * r, axis=-1, keepdims=True)
    along_e = jnp.sum(z * e, axis=-1, keepdims=True)
    rotated = length_row / length_z * (z - 2 * along_r * r + 2 * along_e * q)
    # What rounding and opposite directions leave of the difference carries no gradient.
    return rotated + jax.lax.stop_gradient(rows - rotated)


def _length(x: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}
"""How the gradient gets from a row of a codebook to what it stands for: (z, rows) -> rows."""


def moved(
    codebook: jax.Array, use: jax.Array, share: jax.Array, sums: jax.Array, decay: float
) -> jax.Array:
    """A codebook [K, C] after a batch, without gradients: rows follow what is quantised to them.

    Each row is the exponential moving average of its vectors over that of their number (van den
    Oord et al. 2017, arXiv 1711.00937, appendix A.1). `use` [K] is that average so far, of each
    row's share; of the batch `share` [K] is the same and `sums` [K, C] those of its vectors, over
    the number of all. The new average is decay * use + (1 - decay) * share. A row of no use stays.
    """
    new_use = decay * use + (1 - decay) * share
    total = decay * use[:, None] * codebook + (1 - decay) * jax.lax.stop_gradient(sums)
    used = new_use[:, None] > 0
    return jnp.where(used, total / jnp.where(used, new_use[:, None], 1.0), codebook)


@dataclasses.dataclass(frozen=True)
class FiniteScalar:
    """Each channel bounded and rounded to one of a few levels; the index is their number.

    Mentzer et al. 2023 (arXiv 2309.15505). There is no codebook to learn, and every index is in
    use. Codes lie in -1 .. 1.

    Attributes:
      levels: of each channel, at least 3.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise ConfigError("Finite scalar quantisation needs channels of at least 3 levels.")

    @property
    def size(self) -> int:
        """The number of codes."""
        return int(np.prod(self.levels))

    def bound(self, z: jax.Array) -> jax.Array:
        """z [..., C] squeezed to where rounding gives `levels` integers about 0: [..., C]."""
        levels = np.array(self.levels, np.float32)
        half = (levels - 1) * (1 - 1e-3) / 2
        offset = np.where(np.array(self.levels) % 2, 0.0, 0.5).astype(np.float32)
        return jnp.tanh(z + np.arctanh(offset / half)) * half - offset

    def __call__(self, z: jax.Array) -> jax.Array:
        """The codes of z, with a straight-through gradient past the rounding: [..., C]."""
        bounded = self.bound(z)
        return (bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)) / self._half

    def indices(self, codes: jax.Array) -> jax.Array:
        """[..., C] -> [...] int32."""
        digits = jnp.round(codes * self._half).astype(jnp.int32) + self._half
        return jnp.sum(digits * self._basis, axis=-1).astype(jnp.int32)

    def codes(self, indices: jax.Array) -> jax.Array:
        """[...] -> [..., C] float32."""
        digits = indices[..., None] // self._basis % np.array(self.levels, np.int32)
        return (digits - self._half) / self._half.astype(np.float32)

    @property
    def _half(self) -> np.ndarray:
        return np.array(self.levels, np.int32) // 2

    @property
    def _basis(self) -> np.ndarray:
        return np.concatenate([[1], np.cumprod(self.levels[:-1])]).astype(np.int32)
