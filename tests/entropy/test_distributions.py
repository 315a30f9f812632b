import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from glc_jax.entropy import distributions as d
from glc_jax.entropy import heavy_tails
from tests.entropy.high_precision import DISTRIBUTIONS, bits_and_gradients

STANDARDS = {
    "gaussian": (d.GAUSSIAN,),
    "laplace": (d.LAPLACE,),
    "logistic": (d.LOGISTIC,),
    "student_t": (heavy_tails.student_t(4.0),),
    "generalised_gaussian": (heavy_tails.GENERALISED_GAUSSIAN, jnp.float32(0.75)),
}
VALUES = [0, 0.1, -0.3, 0.49, 0.51, -1, 1.4, 2, 3, -7, 20, 100, 1e3, 1e4, -1e5, 1e6]
SCALES = [1e-6, 1e-4, 1e-2, 0.05, 0.11, 0.3, 0.5, 1, 2, 3.3, 7, 20, 64, 300, 1e3, 1e4, 1e5, 1e6]


@pytest.mark.parametrize("name", STANDARDS)
def test_bits_and_gradients_are_those_of_mpmath_at_all_scales(name):
    """Measured: 3e-7 of the bits; of gradients 3e-6, or absolutely 3e-7 where they vanish.

    With a shape, whose powers and fractions round more: 3e-6 and 7e-7.
    """
    bound = 4 if name in ("student_t", "generalised_gaussian") else 1
    values, scales = (a.ravel() for a in np.meshgrid(np.float32(VALUES), np.float32(SCALES)))

    def bits(value, scale):
        return d.bin_bits(value, scale, *STANDARDS[name])

    found, slopes = jax.jit(jax.vmap(jax.value_and_grad(bits, (0, 1))))(values, scales)
    expected = np.array(
        [
            [float(x) for x in bits_and_gradients(DISTRIBUTIONS[name], value, scale)]
            for value, scale in zip(values, scales, strict=True)
        ]
    )
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-6 * bound, atol=1e-7 * bound)
    np.testing.assert_allclose(slopes[0], expected[:, 1], rtol=1e-5, atol=5e-7 * bound)
    np.testing.assert_allclose(slopes[1], expected[:, 2], rtol=1e-5, atol=5e-7 * bound)


@pytest.mark.parametrize("name", STANDARDS)
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_probabilities_sum_to_one(name, scale):
    values = jnp.arange(-2000.0, 2001.0)
    log_prob = jax.jit(d.bin_log_prob, static_argnums=2)(
        values, jnp.full(4001, scale), *STANDARDS[name]
    )
    assert jnp.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-6)


def test_bits_are_minus_log2_of_the_probability():
    bits = d.bin_bits(jnp.zeros(()), jnp.asarray(0.7413011), d.GAUSSIAN)
    assert bits == pytest.approx(1.0, abs=1e-6)


def test_the_estimate_is_the_published_formula():
    y_q, scale = np.meshgrid(np.arange(-6.0, 7.0), [0.15, 0.5, 2.0, 10.0])
    p = stats.norm.cdf((y_q + 0.5) / scale) - stats.norm.cdf((y_q - 0.5) / scale)
    expected = np.maximum(0, -np.log2(p + 1e-5))
    np.testing.assert_allclose(
        d.gaussian_bits(jnp.array(y_q), jnp.array(scale)), expected, atol=1e-4
    )


def test_the_estimate_clamps_scales_and_bits():
    bits = d.gaussian_bits(jnp.array([0.0, 1.0, 0.0]), jnp.array([-1.0, -1.0, 1e20]))
    assert bits[0] == 0
    assert bits[1:] == pytest.approx(16.61, abs=0.01)
