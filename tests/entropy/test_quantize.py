import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import quantize

X = jnp.linspace(-3.3, 3.3, 401)
KEY = jax.random.key(0)


def gradient(function):
    return jax.vmap(jax.grad(function))(X)


def test_halves_go_to_the_even_neighbour():
    halves = jnp.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(quantize.round_half_even(halves), [-2, -2, 0, 0, 2, 2])
    np.testing.assert_array_equal(quantize.straight_through(halves), [-2, -2, 0, 0, 2, 2])


def test_straight_through_passes_the_gradient():
    np.testing.assert_array_equal(gradient(quantize.straight_through), np.ones(X.size))
    np.testing.assert_array_equal(gradient(quantize.round_half_even), np.zeros(X.size))


def test_noise_is_uniform_on_the_unit_interval():
    error = quantize.additive_noise(jnp.zeros(100_000), KEY)
    assert -0.5 <= error.min() < -0.499
    assert 0.499 < error.max() < 0.5
    assert error.var() == pytest.approx(1 / 12, rel=0.01)


def test_universal_quantisation_has_the_errors_of_noise_but_lattice_values():
    x = jax.random.normal(KEY, (2000, 5))
    quantized = quantize.universal(x, jax.random.key(1))
    error = np.asarray(quantized - x)
    assert np.abs(error).max() <= 0.5 + 1e-6
    assert error.var() == pytest.approx(1 / 12, rel=0.03)
    shift = np.asarray(quantized - jnp.round(quantized))
    np.testing.assert_allclose(np.abs(shift), np.abs(shift[:, :1]) * np.ones(5), atol=1e-6)
    gradients = jax.grad(lambda v: quantize.universal(v, KEY).sum())(x)
    np.testing.assert_array_equal(gradients, np.ones_like(x))


def test_soft_rounding_runs_from_the_identity_to_rounding():
    np.testing.assert_allclose(quantize.soft_round(X, 0.0), X, atol=1e-5)
    away_from_halves = jnp.abs(X - jnp.floor(X) - 0.5) > 0.05
    np.testing.assert_allclose(
        quantize.soft_round(X, 200.0)[away_from_halves], jnp.round(X)[away_from_halves], atol=1e-6
    )
    slopes = gradient(lambda x: quantize.soft_round(x, 4.0))
    assert (slopes > 0).all()


def test_soft_rounding_fixes_integers():
    integers = jnp.arange(-3.0, 4.0)
    for alpha in (0.5, 4.0, 20.0):
        np.testing.assert_allclose(quantize.soft_round(integers, alpha), integers, atol=1e-5)


def test_soft_rounding_with_noise_is_centred_on_soft_rounding_of_integers():
    noisy = quantize.soft_round_with_noise(jnp.full(50_000, 2.0), KEY, 8.0)
    assert noisy.mean() == pytest.approx(2.0, abs=0.01)
