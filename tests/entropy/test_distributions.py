import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from glc_jax.entropy import distributions as d

FAMILIES = [
    (d.gaussian_log_survival, stats.norm),
    (d.laplace_log_survival, stats.laplace),
    (d.logistic_log_survival, stats.logistic),
]


@pytest.mark.parametrize(("log_survival", "scipy_family"), FAMILIES)
def test_log_survival_is_that_of_scipy(log_survival, scipy_family):
    x = np.linspace(-12, 12, 241)
    expected = scipy_family.logsf(x)
    np.testing.assert_allclose(log_survival(jnp.array(x)), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(("log_survival", "scipy_family"), FAMILIES)
def test_bin_probability_is_a_difference_of_cdfs(log_survival, scipy_family):
    values, scale = np.meshgrid(np.arange(-4, 5), [0.3, 1.0, 7.5])
    expected = scipy_family.cdf((values + 0.5) / scale) - scipy_family.cdf((values - 0.5) / scale)
    computed = d.bin_log_prob(jnp.array(values, float), jnp.array(scale), log_survival)
    likely = expected > 1e-7
    np.testing.assert_allclose(np.exp(computed)[likely], expected[likely], rtol=2e-4)


@pytest.mark.parametrize("log_survival", [family[0] for family in FAMILIES])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_probabilities_sum_to_one(log_survival, scale):
    log_prob = d.bin_log_prob(jnp.arange(-200.0, 201.0), jnp.full(401, scale), log_survival)
    assert jnp.exp(log_prob).sum() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("log_survival", [family[0] for family in FAMILIES])
def test_bits_and_gradients_are_finite_far_out(log_survival):
    values = jnp.array([-500.0, -30.0, 0.0, 0.3, 30.0, 500.0])
    for scale in (1e-2, 0.11, 1.0, 64.0, 1e6):
        bits, slopes = jax.vmap(
            jax.value_and_grad(lambda v, s=scale: d.bin_bits(v, jnp.asarray(s), log_survival))
        )(values)
        assert jnp.isfinite(bits).all()
        assert jnp.isfinite(slopes).all()
        assert (bits >= 0).all()


def test_bits_are_minus_log2_of_the_probability():
    assert d.bin_bits(jnp.zeros(()), jnp.asarray(0.7413011)) == pytest.approx(1.0, abs=1e-3)


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
