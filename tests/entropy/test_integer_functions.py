import numpy as np
import pytest

from glc_jax.entropy.integer_functions import rescaled, softmax


def test_rescaling_floors_and_saturates():
    values = np.array([-5, -1, 0, 1, 5, 32767])
    np.testing.assert_array_equal(rescaled(values, 3, 1), np.floor(values / 4))
    np.testing.assert_array_equal(rescaled(values, 1, 4), values * 8)
    assert rescaled(values, -40, 20).max() == 2**40
    np.testing.assert_array_equal(rescaled(values, 62, 0), [-1, -1, 0, 0, 0, 0])


@pytest.mark.parametrize("exponent", [4, 9, np.array([[12], [3], [-1], [20]])])
def test_softmax_of_integers_is_softmax_within_their_last_place(exponent):
    logits = np.random.default_rng(0).integers(-9000, 9000, (4, 300))
    frequencies = softmax(logits, exponent, 24)
    assert frequencies.min() >= 1
    np.testing.assert_array_equal(frequencies.sum(axis=1), 2**24)
    real = logits * 2.0 ** -np.asarray(exponent)
    shares = np.exp(real - real.max(axis=1, keepdims=True))
    shares *= (2**24 - 300) / shares.sum(axis=1, keepdims=True)
    without_the_largest = np.abs(frequencies - 1 - shares)
    without_the_largest[np.arange(4), frequencies.argmax(axis=1)] = 0
    assert (without_the_largest < 1.01 + 1e-5 * shares).all()


def test_softmax_holds_its_bounds_at_the_extremes():
    for logits in ([[32767, -32768, 0]], [[-32768] * 3], [[7]]):
        for exponent in (-15, 0, 15, 40):
            frequencies = softmax(np.array(logits), exponent, 20)
            assert frequencies.min() >= 1
            assert frequencies.sum() == 2**20
