"""The ways to carry integers agree, and none ever rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glc_jax.entropy import integer
from glc_jax.entropy.integer import BYTE_LIMIT, LIMIT, ByteLimbs, Float64, FloatLimbs, NumPy

CARRIERS = [Float64(), FloatLimbs(), ByteLimbs()]
elements = st.integers(-LIMIT, LIMIT) | st.sampled_from([-LIMIT, LIMIT, 127, 128, -128, -129, 0])


kernels = hnp.arrays(np.int16, (7, 3), elements=elements) | hnp.arrays(
    np.int8, (7, 3), elements=st.integers(-BYTE_LIMIT, BYTE_LIMIT)
)
products = st.tuples(hnp.arrays(np.int64, (4, 7), elements=elements), kernels)


def python_product(x, kernel):
    """Python's unbounded integers, element by element."""
    x, kernel = x.tolist(), kernel.T.tolist()
    return [[sum(a * b for a, b in zip(r, c, strict=True)) for c in kernel] for r in x]


@given(products)
@settings(deadline=None, max_examples=50)
def test_products_are_exact(product):
    x, kernel = product
    wanted = python_product(x, kernel)
    assert NumPy().matmul(x, NumPy().kernel(kernel)).tolist() == wanted
    for carrier in CARRIERS:
        with integer.x64():
            got = carrier.matmul(carrier.integers(x), carrier.kernel(kernel))
        assert np.asarray(got).astype(np.int64).tolist() == wanted


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("limit", [BYTE_LIMIT, LIMIT])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_are_exact(carrier, limit, sign):
    """9 x 512 products of the largest integers, in a compiled program."""
    x = np.full((3, 4608), LIMIT)
    kernel = np.full((4608, 2), sign * limit, np.int16)
    x[0, 7], x[1], kernel[9, 1] = 1, 128, 3  # 128 is 256 - 128
    with integer.x64():
        got = jax.jit(carrier.matmul)(carrier.integers(x), carrier.kernel(kernel))
    np.testing.assert_array_equal(np.asarray(got).astype(np.int64), x @ kernel.astype(np.int64))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_more_products_than_an_int32_adds_up_are_exact(carrier):
    """Byte by byte, 2^17 products of 127 and 127 would be more than 2^31."""
    x, kernel = np.full((1, 140_000), LIMIT), np.full((140_000, 1), LIMIT, np.int16)
    with integer.x64():
        got = carrier.matmul(carrier.integers(x), carrier.kernel(kernel))
    assert int(np.asarray(got)[0, 0]) == 140_000 * LIMIT**2


@given(hnp.arrays(np.int64, 20, elements=st.integers(-(2**51), 2**51)), st.integers(0, 48))
@settings(deadline=None, max_examples=50)
def test_shifts_floor(x, shift):
    wanted = [v >> shift for v in x.tolist()]
    for arithmetic in [*CARRIERS, NumPy()]:
        with integer.x64():
            got = arithmetic.shift_right(
                arithmetic.integers(x), arithmetic.right_shift(np.int8(shift))
            )
        assert np.asarray(got).astype(np.int64).tolist() == wanted


@given(hnp.arrays(np.int64, 20, elements=elements), st.integers(0, 32))
@settings(deadline=None, max_examples=50)
def test_left_shifts_multiply(x, shift):
    for arithmetic in [*CARRIERS, NumPy()]:
        with integer.x64():
            got = arithmetic.shift_left(
                arithmetic.integers(x), arithmetic.left_shift(np.int8(shift))
            )
        np.testing.assert_array_equal(np.asarray(got).astype(np.int64), x * 2**shift)


def test_both_bytes_of_the_limits_are_signed_bytes():
    high, low = integer._split_bytes(np.arange(-LIMIT, LIMIT + 1))
    for part in (high, low):
        assert part.min() >= -128
        assert part.max() <= 127
    np.testing.assert_array_equal(high * 256 + low, np.arange(-LIMIT, LIMIT + 1))


def test_64_bits_do_not_leak():
    with integer.x64():
        assert jnp.ones(1).dtype == jnp.float64
    assert jnp.ones(1).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


def products(carrier, limit):
    """The matrix products in what a carrier lowers to for a kernel of such integers."""
    x, kernel = np.zeros((4, 5)), np.array([[limit, -limit, 1]] * 5)
    with integer.x64():
        lowered = jax.jit(carrier.matmul).lower(carrier.integers(x), carrier.kernel(kernel))
    return [line for line in lowered.as_text().splitlines() if "dot_general" in line]


def test_a_kernel_of_one_byte_takes_half_of_the_products():
    (narrow,) = products(FloatLimbs(), BYTE_LIMIT)
    assert "tensor<2x4x5xbf16>, tensor<5x3xbf16>) -> tensor<2x4x3xf32>" in narrow
    (wide,) = products(FloatLimbs(), BYTE_LIMIT + 1)
    assert "-> tensor<4x3xf64>" in wide
    assert len(products(ByteLimbs(), BYTE_LIMIT)) == 2
    assert len(products(ByteLimbs(), BYTE_LIMIT + 1)) == 4


def test_what_a_processor_says_of_bfloat16(monkeypatch, tmp_path):
    def found(text: str | None) -> bool:
        integer._multiplies_bfloat16.cache_clear()
        path = tmp_path / "cpuinfo"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(integer, "PROCESSOR", path)
        return integer._multiplies_bfloat16()

    assert found("model name : x\nflags\t\t: fpu avx512f avx512_bf16 vnni\nbugs : y\n")
    assert found("flags : fpu amx_bf16\n")
    assert not found("flags : fpu avx512f\nbugs : avx512_bf16\n")
    assert not found("Features : fp asimd bf16\n")
    assert not found(None)
    integer._multiplies_bfloat16.cache_clear()


def test_what_suits_a_platform(monkeypatch):
    assert integer.arithmetic_for("tpu") == ByteLimbs()
    for platform in ("gpu", "cuda", "rocm"):
        assert integer.arithmetic_for(platform) == Float64()
    for has, arithmetic in ((True, FloatLimbs()), (False, Float64())):
        monkeypatch.setattr(integer, "_multiplies_bfloat16", lambda has=has: has)
        assert integer.arithmetic_for("cpu") == arithmetic
