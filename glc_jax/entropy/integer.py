"""Integer arithmetic that comes out the same on every machine: three ways to carry it.

All the entropy networks need (see `exact`) are products of 16-bit integers, sums of them below
2^52, shifts and comparisons. An arithmetic decides what carries the integers and how the products
of matrices are made; it has no choice about the result.

  Float64    float64 that holds integers, for CPU and GPU: every partial sum is an integer below
             2^53, so no addition ever rounds, whatever its order.
  ByteLimbs  int8 x int8 -> int32 matrix products of high and low bytes, for TPU; the rest in
             int64, elementwise.
  NumPy      int64 on the host: slow, plain, the witness of the other two.

A kernel or a shift is prepared once, from the integers of a weights file, into what the arithmetic
multiplies with. Arithmetics of one class are equal, so that compiled programs are shared.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LIMIT = 127 * 256 + 127
"""Activations and weights lie in -LIMIT .. LIMIT, so that both bytes of one are signed bytes."""

ACCUMULATOR_BITS = 52
"""Sums stay below 2^52 in magnitude; float64 holds every integer up to 2^53."""

Array = Any  # jax.Array or np.ndarray


def x64() -> contextlib.AbstractContextManager:
    """64-bit types within this context of this thread, and nowhere else."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


class Arithmetic(Protocol):
    """What carries integers. Shifts are per output channel, or scalar."""

    xp: ClassVar[ModuleType]

    def integers(self, values: np.ndarray) -> Array:
        """Integers as the arithmetic carries them."""

    def kernel(self, values: np.ndarray) -> Any:
        """The prepared right-hand side [..., K, N] of a `matmul`, from int16."""

    def right_shift(self, shift: np.ndarray) -> Array:
        """Prepares `shift` (at least 0) for `shift_right`."""

    def left_shift(self, shift: np.ndarray) -> Array:
        """Prepares `shift` (at least 0) for `shift_left`."""

    def matmul(self, x: Array, kernel: Any) -> Array:
        """x [..., K] times a prepared kernel [K, N], exactly: [..., N]."""

    def shift_left(self, x: Array, prepared: Array) -> Array:
        """x * 2^shift."""

    def shift_right(self, x: Array, prepared: Array) -> Array:
        """floor(x / 2^shift)."""


@dataclass(frozen=True)
class Float64:
    """Integers carried by float64. Use it within `x64`."""

    xp: ClassVar[ModuleType] = jnp

    def integers(self, values: np.ndarray) -> Array:
        return jax.device_put(np.asarray(values, np.float64))

    kernel = integers

    def right_shift(self, shift: np.ndarray) -> Array:
        return self.integers(np.ldexp(1.0, -np.asarray(shift, np.int32)))

    def left_shift(self, shift: np.ndarray) -> Array:
        return self.integers(np.ldexp(1.0, np.asarray(shift, np.int32)))

    def matmul(self, x: Array, kernel: Array) -> Array:
        return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)

    def shift_left(self, x: Array, prepared: Array) -> Array:
        return x * prepared

    def shift_right(self, x: Array, prepared: Array) -> Array:
        return jnp.floor(x * prepared)


class _Int64:
    """Integers carried by int64: what ByteLimbs and NumPy have in common."""

    xp: ClassVar[ModuleType]

    def integers(self, values: np.ndarray) -> Array:
        values = np.asarray(values, np.int64)
        return values if self.xp is np else jax.device_put(values)

    right_shift = left_shift = integers

    def shift_left(self, x: Array, prepared: Array) -> Array:
        return x << prepared

    def shift_right(self, x: Array, prepared: Array) -> Array:
        return x >> prepared


@dataclass(frozen=True)
class ByteLimbs(_Int64):
    """Matrix products of signed bytes accumulated in int32. Use it within `x64`.

    x = 256 * high + low with both in -128 .. 127, so x w takes four products of bytes; each sum
    stays in int32 for up to 2^17 terms.
    """

    xp: ClassVar[ModuleType] = jnp

    def kernel(self, values: np.ndarray) -> tuple[Array, Array]:
        high, low = _split_bytes(np.asarray(values, np.int64))
        return jax.device_put((high.astype(np.int8), low.astype(np.int8)))

    def matmul(self, x: Array, kernel: tuple[Array, Array]) -> Array:
        kernel_high, kernel_low = kernel
        x_high, x_low = (part.astype(jnp.int8) for part in _split_bytes(x))
        high = _byte_matmul(x_high, kernel_high)
        middle = _byte_matmul(x_high, kernel_low) + _byte_matmul(x_low, kernel_high)
        return (high << 16) + (middle << 8) + _byte_matmul(x_low, kernel_low)


@dataclass(frozen=True)
class NumPy(_Int64):
    """Plain int64 on the host."""

    xp: ClassVar[ModuleType] = np

    def kernel(self, values: np.ndarray) -> Array:
        return self.integers(values)

    def matmul(self, x: Array, kernel: Array) -> Array:
        return np.matmul(x, kernel)


def arithmetic_for(platform: str) -> Arithmetic:
    """The arithmetic that suits a JAX platform: "cpu", "gpu" ("cuda", "rocm") or "tpu"."""
    return ByteLimbs() if platform == "tpu" else Float64()


def _split_bytes(x: Array) -> tuple[Array, Array]:
    high = (x + 128) >> 8
    return high, x - (high << 8)


def _byte_matmul(x: Array, kernel: Array) -> Array:
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(x, kernel, contract, preferred_element_type=jnp.int32).astype(jnp.int64)
