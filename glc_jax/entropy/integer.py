"""Integer arithmetic that comes out the same on every machine: four ways to carry it.

All that a program needs (see `operations`) are products of 16-bit integers, sums of them below
2^52, shifts, comparisons, division and square roots with a floor. An arithmetic decides what
carries the integers and how the products of matrices are made; it has no choice about the result.

  Float64    float64 that holds integers, for CPU and GPU: every partial sum is an integer below
             2^53, so no addition ever rounds, whatever its order.
  FloatLimbs Float64 whose products with kernels of one byte are made of two of bfloat16, with sums
             in float32 below 2^24: for processors that have instructions for it.
  ByteLimbs  int8 x int8 -> int32 matrix products of high and low bytes, for TPU; the rest in
             int64, elementwise.
  NumPy      int64 on the host: slow, plain, the witness of the others.

HostFloat64 is Float64 in NumPy, for a single picture that is not worth a compilation.

A kernel or a shift is prepared once, from the integers of a weights file, into what the arithmetic
multiplies with. Arithmetics of one class are equal, so that compiled programs are shared.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

import numpy as np

from glc_jax.entropy import later

jax, jnp, lax = map(later.module, ("jax", "jax.numpy", "jax.lax"))

LIMIT = 127 * 256 + 127
"""Activations and weights lie in -LIMIT .. LIMIT, so that both bytes of one are signed bytes."""

BYTE_LIMIT = 127
"""Weights in -BYTE_LIMIT .. BYTE_LIMIT are multiplied as single bytes."""

ACCUMULATOR_BITS = 52
"""Sums stay below 2^52 in magnitude; float64 holds every integer up to 2^53."""

PROCESSOR = Path("/proc/cpuinfo")
"""Where Linux says what the processor can do."""

_TERMS = 1 << 16  # products of signed bytes that an int32 can add up
_FLOAT_TERMS = 1 << 10  # and that float32 can, which holds every integer up to 2^24

Array = Any  # jax.Array or np.ndarray


def x64() -> contextlib.AbstractContextManager:
    """64-bit types within this context of this thread, and nowhere else."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


def wide_enough(arithmetic: Arithmetic) -> contextlib.AbstractContextManager:
    """A context in which the arithmetic carries all its bits: `x64` where JAX computes."""
    return contextlib.nullcontext() if arithmetic.xp is np else x64()


class Arithmetic(Protocol):
    """What carries integers. Shifts are per output channel, or scalar."""

    xp: ClassVar[ModuleType]
    dtype: ClassVar[type]

    def integers(self, values: np.ndarray) -> Array:
        """Integers as the arithmetic carries them."""

    def kernel(self, values: np.ndarray) -> Any:
        """The prepared right-hand side [..., K, N] of a `matmul`, from int8 or int16."""

    def right_shift(self, shift: np.ndarray) -> Array:
        """Prepares `shift` (at least 0) for `shift_right`."""

    def left_shift(self, shift: np.ndarray) -> Array:
        """Prepares `shift` (at least 0) for `shift_left`."""

    def matmul(self, x: Array, kernel: Any) -> Array:
        """x [..., K] times a prepared kernel [K, N], exactly: [..., N]."""

    def product(self, a: Array, b: Array) -> Array:
        """a [..., M, K] times b [..., K, N], both of 16 bits: [..., M, N]."""

    def shift_left(self, x: Array, prepared: Array) -> Array:
        """x * 2^shift."""

    def shift_right(self, x: Array, prepared: Array) -> Array:
        """floor(x / 2^shift)."""

    def divide(self, a: Array, b: Array) -> Array:
        """floor(a / b) for b >= 1."""

    def square_root(self, x: Array) -> Array:
        """floor(sqrt(x)) for x >= 0."""


class _Float64:
    """Integers carried by float64: what Float64 and HostFloat64 have in common."""

    xp: ClassVar[ModuleType]
    dtype: ClassVar[type] = np.float64

    def integers(self, values: np.ndarray) -> Array:
        values = np.asarray(values, np.float64)
        return values if self.xp is np else jax.device_put(values)

    def kernel(self, values: np.ndarray) -> Array:
        return self.integers(values)

    def right_shift(self, shift: np.ndarray) -> Array:
        return self.integers(np.ldexp(1.0, -np.asarray(shift, np.int32)))

    def left_shift(self, shift: np.ndarray) -> Array:
        return self.integers(np.ldexp(1.0, np.asarray(shift, np.int32)))

    def matmul(self, x: Array, kernel: Array) -> Array:
        return self.xp.matmul(x, kernel)

    def product(self, a: Array, b: Array) -> Array:
        return self.matmul(a, b)

    def shift_left(self, x: Array, prepared: Array) -> Array:
        return x * prepared

    def shift_right(self, x: Array, prepared: Array) -> Array:
        return self.xp.floor(x * prepared)

    def divide(self, a: Array, b: Array) -> Array:
        # The quotient is rounded, so its floor may be one off; the products here are exact.
        quotient = self.xp.floor(a / b)
        rest = a - quotient * b
        return quotient + self.xp.where(rest >= b, 1.0, 0.0) - self.xp.where(rest < 0, 1.0, 0.0)

    def square_root(self, x: Array) -> Array:
        root = self.xp.floor(self.xp.sqrt(x))
        root = root - self.xp.where(root * root > x, 1.0, 0.0)
        return root + self.xp.where((root + 1) * (root + 1) <= x, 1.0, 0.0)


@dataclass(frozen=True)
class Float64(_Float64):
    """Integers carried by float64, in JAX. Use it within `x64`."""

    xp: ClassVar[ModuleType] = jnp

    def matmul(self, x: Array, kernel: Array) -> Array:
        return jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)


@dataclass(frozen=True)
class FloatLimbs(Float64):
    """Integers carried by float64, whose bytes are multiplied in bfloat16. Use it within `x64`.

    x = 256 * high + low with both in -128 .. 127, which bfloat16 holds, so a product with a kernel
    of one byte takes two of bfloat16; float32 adds up 2^10 terms without rounding. Wider kernels
    are multiplied in float64.
    """

    def kernel(self, values: np.ndarray) -> Array:
        values = np.asarray(values)
        if _of_one_byte(values):
            return jax.device_put(values.astype(jnp.bfloat16))
        return super().kernel(values)

    def matmul(self, x: Array, kernel: Array) -> Array:
        if kernel.dtype != jnp.bfloat16:
            return super().matmul(x, kernel)
        # Without the barrier XLA computes all that x is made of once for each limb.
        x = lax.optimization_barrier(x.astype(jnp.int16))
        limbs = jnp.stack([limb.astype(jnp.bfloat16) for limb in _split_bytes(x)])
        contract = (((x.ndim,), (0,)), ((), ()))
        sums = _in_pieces(limbs, kernel, 0, contract, _FLOAT_TERMS, jnp.float32, jnp.float64)
        return 256 * sums[0] + sums[1]


@dataclass(frozen=True)
class HostFloat64(_Float64):
    """The same in NumPy: slower than what JAX compiles, but nothing is compiled."""

    xp: ClassVar[ModuleType] = np

    def shift_right(self, x: Array, prepared: Array) -> Array:
        shifted = np.asarray(x * prepared)
        return np.floor(shifted, out=shifted)


class _Int64:
    """Integers carried by int64: what ByteLimbs and NumPy have in common."""

    xp: ClassVar[ModuleType]
    dtype: ClassVar[type] = np.int64

    def integers(self, values: np.ndarray) -> Array:
        values = np.asarray(values, np.int64)
        return values if self.xp is np else jax.device_put(values)

    right_shift = left_shift = integers

    def shift_left(self, x: Array, prepared: Array) -> Array:
        return x << prepared

    def shift_right(self, x: Array, prepared: Array) -> Array:
        return x >> prepared

    def divide(self, a: Array, b: Array) -> Array:
        return a // b

    def square_root(self, x: Array) -> Array:
        """Bit by bit from the highest: no float is asked."""
        root = self.xp.zeros_like(x)
        for bit in reversed(range(ACCUMULATOR_BITS // 2 + 1)):
            larger = root + (1 << bit)
            root = self.xp.where(larger * larger <= x, larger, root)
        return root


@dataclass(frozen=True)
class ByteLimbs(_Int64):
    """Matrix products of signed bytes accumulated in int32. Use it within `x64`.

    x = 256 * high + low with both in -128 .. 127, so x w takes four products of bytes, and two
    where w has one byte; each sum stays in int32 for up to 2^16 terms.
    """

    xp: ClassVar[ModuleType] = jnp

    def kernel(self, values: np.ndarray) -> tuple[Array, ...]:
        if _of_one_byte(values):
            return (jax.device_put(np.asarray(values, np.int8)),)
        limbs = _split_bytes(np.asarray(values, np.int64))
        return jax.device_put(tuple(limb.astype(np.int8) for limb in limbs))

    def matmul(self, x: Array, kernel: tuple[Array, ...]) -> Array:
        return _limb_products(x, kernel, _byte_matmul)

    def product(self, a: Array, b: Array) -> Array:
        limbs = tuple(part.astype(jnp.int8) for part in _split_bytes(b))
        return _limb_products(a, limbs, _byte_product)


@dataclass(frozen=True)
class NumPy(_Int64):
    """Plain int64 on the host."""

    xp: ClassVar[ModuleType] = np

    def kernel(self, values: np.ndarray) -> Array:
        return self.integers(values)

    def matmul(self, x: Array, kernel: Array) -> Array:
        return np.matmul(x, kernel)

    product = matmul


def arithmetic_for(platform: str) -> Arithmetic:
    """The arithmetic that suits a JAX platform: "cpu", "gpu" ("cuda", "rocm") or "tpu"."""
    if platform == "tpu":
        return ByteLimbs()
    return FloatLimbs() if platform == "cpu" and _multiplies_bfloat16() else Float64()


@functools.cache
def _multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    try:
        text = PROCESSOR.read_text(errors="replace")
    except OSError:
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags[1].split())


def _of_one_byte(values: np.ndarray) -> bool:
    return bool(np.max(np.abs(values.astype(np.int64)), initial=0) <= BYTE_LIMIT)


def _split_bytes(x: Array) -> tuple[Array, Array]:
    high = (x + 128) >> 8
    return high, x - (high << 8)


def _limb_products(x: Array, limbs: tuple[Array, ...], multiply: Callable) -> Array:
    *kernel_high, kernel_low = limbs
    x_high, x_low = (part.astype(jnp.int8) for part in _split_bytes(x))
    if not kernel_high:
        return (multiply(x_high, kernel_low) << 8) + multiply(x_low, kernel_low)
    (kernel_high,) = kernel_high
    high = multiply(x_high, kernel_high)
    middle = multiply(x_high, kernel_low) + multiply(x_low, kernel_high)
    return (high << 16) + (middle << 8) + multiply(x_low, kernel_low)


def _byte_matmul(x: Array, kernel: Array) -> Array:
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return _in_pieces(x, kernel, 0, contract, _TERMS, jnp.int32, jnp.int64)


def _byte_product(a: Array, b: Array) -> Array:
    batch = tuple(range(a.ndim - 2))
    contract = (((a.ndim - 1,), (a.ndim - 2,)), (batch, batch))
    return _in_pieces(a, b, a.ndim - 2, contract, _TERMS, jnp.int32, jnp.int64)


def _in_pieces(
    a: Array, b: Array, axis: int, contract: Any, terms: int, sums: Any, dtype: Any
) -> Array:
    """The product over a's last axis and b's `axis`: `sums` of so many terms, added up in dtype."""
    total = 0
    for start in range(0, max(a.shape[-1], 1), terms):
        parts = (
            lax.slice_in_dim(x, start, min(start + terms, a.shape[-1]), axis=x_axis)
            for x, x_axis in ((a, a.ndim - 1), (b, axis))
        )
        piece = lax.dot_general(*parts, contract, preferred_element_type=sums)
        total = total + piece.astype(dtype)
    return total
