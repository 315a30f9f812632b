"""Laws that every family of distributions keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import families
from glc_jax.entropy.families import family
from glc_jax.errors import ConfigError


def test_a_family_is_a_value():
    assert family("gaussian", smallest_scale=0.5) == families.Gaussian(0.5)
    assert hash(family("categorical", size=4)) == hash(families.Categorical(4))


def test_a_family_of_another_package_is_named_by_its_path():
    name = "glc_jax.entropy.families.location_scale:Gaussian"
    assert family(name) == families.Gaussian()


@pytest.mark.parametrize("name", ["gaussion", "no.such.module:Class", "glc_jax.errors:Nothing", ""])
def test_an_unknown_family_is_a_config_error(name):
    with pytest.raises(ConfigError, match="gaussian"):
        family(name)


def test_unknown_fields_are_a_config_error():
    with pytest.raises(ConfigError, match="cannot be made"):
        family("gaussian", size=3)


def test_a_trainable_family_pulls_scales_back_over_its_bound():
    gaussian = families.Gaussian().trainable()
    slope = jax.grad(lambda scale: gaussian.bits(jnp.array(1.0), scale=scale))(jnp.array(-3.0))
    assert -1e5 < slope < 0
    bound = gaussian.bits(jnp.array(1.0), scale=jnp.array(0.11))
    assert gaussian.bits(jnp.array(1.0), scale=jnp.array(-3.0)) == bound


def test_gaussian_subtracts_its_mean_and_publishes_a_floored_estimate():
    parameters = {"scale": jnp.array([0.1]), "mean": jnp.array([2.5])}
    gaussian = families.Gaussian()
    np.testing.assert_array_equal(gaussian.centre(**parameters), [2.5])
    assert gaussian.bits(jnp.array([3.0]), **parameters) > 400
    assert gaussian.estimate(jnp.array([3.0]), **parameters) < 16.7


def test_categorical_bits_are_those_of_its_size():
    indices = jnp.zeros((2, 3), jnp.int32)
    np.testing.assert_array_equal(families.Categorical(1024).bits(indices), np.full((2, 3), 10.0))


def test_categorical_codes_with_counts_where_they_help():
    categorical = families.Categorical(4)
    arrays = categorical.tables(counts=np.array([900, 50, 50, 0]))
    coder = categorical.coder(arrays)
    assert coder.wants_option(np.zeros(5, int))
    assert not coder.wants_option(np.full(5, 3))
    shares = (np.array([900, 50, 50, 0]) + 0.5) / 1002
    np.testing.assert_allclose(coder.bits(np.arange(4), option=True), -np.log2(shares), rtol=1e-3)
    assert not categorical.coder({}).wants_option(np.zeros(5, int))
