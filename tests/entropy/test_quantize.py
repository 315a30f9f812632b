import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import quantize
from glc_jax.entropy.quantize import Moment
from glc_jax.entropy.schedules import Schedule
from glc_jax.errors import ConfigError

X = jnp.linspace(-3.3, 3.3, 401)
KEY = jax.random.key(0)
MOMENT = Moment(jnp.int32(1000), jax.random.split(KEY, 3))
BATCH = jnp.stack([X, X + 0.25, X - 1.1])


def gradient(function):
    return jax.jit(jax.vmap(jax.grad(function)))(X)


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


def test_soft_rounding_fixes_integers():
    integers = jnp.arange(-3.0, 4.0)
    for alpha in (0.5, 4.0, 20.0):
        np.testing.assert_allclose(quantize.soft_round(integers, alpha), integers, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_soft_rounding_has_the_gradient_of_its_formula(alpha):
    from_centre = np.asarray(X - jnp.floor(X)) - 0.5
    expected = alpha / np.cosh(alpha * from_centre) ** 2 / (2 * np.tanh(alpha / 2))
    np.testing.assert_allclose(
        gradient(lambda x: quantize.soft_round(x, alpha)), expected, rtol=1e-4
    )


@pytest.mark.parametrize("alpha", [0.0, 0.5, 4.0, 8.0])
def test_the_inverse_undoes_soft_rounding_and_its_gradient(alpha):
    away_from_integers = jnp.abs(X - jnp.round(X)) > 0.02  # where soft rounding is flat
    soft = quantize.soft_round(X, alpha)
    back = quantize.soft_round_inverse(soft, alpha)
    np.testing.assert_allclose(back[away_from_integers], X[away_from_integers], atol=2e-3)
    slope = gradient(lambda x: quantize.soft_round_inverse(quantize.soft_round(x, alpha), alpha))
    np.testing.assert_allclose(slope[away_from_integers], 1, rtol=0.02)
    steep = gradient(lambda y: quantize.soft_round_inverse(y, 50.0))
    assert np.isfinite(steep).all()


def test_the_conditional_mean_is_the_mean_of_what_could_have_been():
    """Of x on a grid, those whose soft-rounded value is within the noise's reach of y."""
    x = np.linspace(-3, 3, 600_001)
    soft = np.asarray(quantize.soft_round(jnp.asarray(x), 3.0))
    centres = np.linspace(-1.4, 1.4, 15)
    found = [x[np.abs(soft - centre) < 0.5].mean() for centre in centres]
    expected = quantize.soft_round_conditional_mean(jnp.asarray(centres), 3.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_conditional_mean_has_the_gradient_of_finite_differences():
    def mean(y):
        return quantize.soft_round_conditional_mean(y, 3.0)

    off_kinks = np.abs(np.asarray(X) - np.floor(X) - 0.5) > 0.02
    expected = (mean(X + 1e-2) - mean(X - 1e-2)) / 2e-2
    np.testing.assert_allclose(gradient(mean)[off_kinks], expected[off_kinks], rtol=0.02)


def test_the_gumbel_choice_is_between_neighbours_and_ends_as_rounding():
    x = jnp.full(20_000, 1.3)
    warm = quantize.stochastic_gumbel(x, KEY, 0.5)
    assert 1 <= warm.min() < 1.1
    assert 1.9 < warm.max() <= 2
    # Without noise the odds of 2 are exp((atanh(0.3) - atanh(0.7)) / 0.5).
    odds = np.exp((np.arctanh(0.3) - np.arctanh(0.7)) / 0.5)
    assert (warm > 1.5).mean() == pytest.approx(odds / (1 + odds), abs=0.01)
    cold = quantize.stochastic_gumbel(X, KEY, 1e-3)
    clear = np.abs(np.asarray(X) - np.floor(X) - 0.5) > 0.05
    np.testing.assert_allclose(cold[clear], jnp.round(X)[clear], atol=1e-5)


def test_the_gumbel_choice_has_the_gradient_of_its_formula():
    temperature = 0.7
    x = X[np.abs(np.asarray(X) - np.round(X)) > 0.01]
    share = np.asarray(quantize.stochastic_gumbel(x, KEY, temperature) - jnp.floor(x), float)
    up = np.asarray(x - jnp.floor(x), float)
    expected = share * (1 - share) / temperature**2 * (1 / (1 - up**2) + 1 / (1 - (1 - up) ** 2))
    slopes = jax.grad(lambda x: quantize.stochastic_gumbel(x, KEY, temperature).sum())(x)
    np.testing.assert_allclose(slopes, expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", quantize.QUANTISERS)
def test_a_quantiser_treats_each_sample_by_its_own_key(name):
    """So a batch may be divided in any way."""
    quantiser = quantize.from_config(name)
    together = jax.jit(quantiser)(BATCH, MOMENT)
    for i in range(3):
        alone = jax.jit(quantiser)(BATCH[i : i + 1], MOMENT._replace(keys=MOMENT.keys[i : i + 1]))
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[0], b[i], atol=1e-5)
    for values in together:
        assert values.shape == BATCH.shape
        assert jnp.abs(values - BATCH).max() < 1.0001


@pytest.mark.parametrize("name", quantize.QUANTISERS)
def test_every_quantiser_lets_gradients_through_to_both(name):
    quantiser = quantize.from_config(name)
    for part in range(2):
        slopes = jax.jit(jax.grad(lambda x, i=part: quantiser(x, MOMENT)[i].sum()))(BATCH)
        assert np.isfinite(slopes).all()
        assert slopes.mean() > 0.5


def test_mixed_rounds_what_goes_on_and_codes_noise():
    values, coded = quantize.from_config("mixed")(BATCH, MOMENT)
    np.testing.assert_allclose(values, jnp.round(BATCH), atol=1e-6)
    noisy = quantize.from_config("noise")(BATCH, MOMENT)
    np.testing.assert_array_equal(coded, noisy.coded_values)


def test_soft_rounding_follows_its_schedule():
    config = {"name": "soft_round", "alpha": {"start": 1.0, "end": 9.0, "steps": 2000}}
    quantiser = quantize.from_config(config)
    halfway = quantiser(BATCH, MOMENT)
    fixed = quantize.from_config({"name": "soft_round", "alpha": 5})(BATCH, MOMENT)
    np.testing.assert_allclose(halfway.values, fixed.values, rtol=1e-6)
    expected = quantize.soft_round_conditional_mean(fixed.coded_values, 5.0)
    np.testing.assert_allclose(fixed.values, expected, rtol=1e-6)


def test_soft_rounding_codes_what_it_has_rounded_with_noise():
    soft = quantize.from_config({"name": "soft_round", "alpha": 5})(BATCH, MOMENT)
    noise = quantize.from_config("noise")(BATCH, MOMENT).values - BATCH
    expected = quantize.soft_round(BATCH, 5.0) + noise
    np.testing.assert_allclose(soft.coded_values, expected, atol=1e-5)


def test_a_schedule_runs_from_start_to_end():
    linear = Schedule(2.0, 4.0, 100, begin=50)
    assert [float(linear(step)) for step in (0, 50, 100, 150, 999)] == [2, 2, 3, 4, 4]
    geometric = Schedule(1.0, 16.0, 4, "geometric")
    np.testing.assert_allclose([geometric(s) for s in range(6)], [1, 2, 4, 8, 16, 16], rtol=1e-6)
    assert float(Schedule(7.0, 5.0)(0)) == 5


@pytest.mark.parametrize(
    "config",
    [
        "dice",
        "no.such:Thing",
        {},
        {"name": "mixed", "alpha": 1},
        {"name": "soft_round", "alpha": "high"},
        {"name": "soft_round", "alpha": {"start": 0, "end": 1, "kind": "geometric"}},
        {"name": "soft_round", "alpha": {"start": 0, "end": 1, "kind": "cosine"}},
        {"name": "soft_round", "alpha": {"start": 0, "end": 1, "steps": -1}},
    ],
)
def test_what_makes_no_quantiser_is_a_config_error(config):
    with pytest.raises(ConfigError):
        quantize.from_config(config)
