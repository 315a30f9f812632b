import jax
import numpy as np

from glc_jax.entropy.bounds import lower_bound


def test_a_lower_bound_lets_the_gradient_back_above_it():
    x = np.float32([0.05, 0.05, 0.5])
    cotangent = np.float32([1.0, -1.0, 1.0])  # descent moves x by minus this
    value, pull = jax.vjp(lambda x: lower_bound(x, 0.1), x)
    np.testing.assert_allclose(value, [0.1, 0.1, 0.5])
    np.testing.assert_allclose(pull(cotangent)[0], [0.0, -1.0, 1.0])
