import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import integer, tables
from glc_jax.entropy.group_coders import CategoricalCoder, TableCoder
from glc_jax.entropy.range_coder import RangeDecoder, RangeEncoder
from glc_jax.errors import BitstreamError, WeightsError
from tests.integer_coder import IntegerWriter

GAUSSIAN = TableCoder(tables.gaussian())


@pytest.mark.parametrize("exponent", [3, np.array([-2, 9, 9, 14])])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.float64])
def test_indices_compare_values_whatever_carries_them(exponent, kind):
    rng = np.random.default_rng(0)
    scales = rng.integers(-tables.MAX_INTEGER, tables.MAX_INTEGER + 1, (50, 4))
    scales[:10] = rng.integers(-2, 40, (10, 4))
    values = np.ldexp(scales.astype(float), -np.broadcast_to(exponent, 4))
    wanted = np.searchsorted(tables.gaussian().thresholds * 2.0**-16, values, side="right")
    with integer.x64():
        for xp in (np, jnp):
            carried = xp.asarray(scales.astype(kind))
            found = GAUSSIAN.index(xp, {"scale": exponent}, scale=carried)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, wanted)


def test_one_table_is_as_good_as_many_where_there_is_no_choice():
    assert CategoricalCoder(5).index(np, {}).shape == ()


def test_a_residual_of_32768_by_hand_is_refused():
    """An escape that says 32768: excess over the radius 4 in 14 bits below its first."""
    frequencies = tables.gaussian().frequencies[0].tolist()
    excess = 32768 - 4
    m = excess.bit_length() - 1
    for negative, fits in ((1, True), (0, False)):
        writer = IntegerWriter()
        writer.write(len(frequencies) - 1, frequencies)
        writer.write(m, [2 ** (23 - i) for i in range(15)] + [2**9])
        writer.write(excess - 2**m + negative * 2**m, [2 ** (24 - m - 1)] * 2 ** (m + 1))
        decoder = RangeDecoder(writer.finish())
        if fits:
            assert GAUSSIAN.decode(decoder, np.zeros(1, np.uint8)).tolist() == [-32768]
        else:
            with pytest.raises(BitstreamError, match="out of range"):
                GAUSSIAN.decode(decoder, np.zeros(1, np.uint8))


def test_indices_out_of_range_are_refused():
    with pytest.raises(ValueError, match="indices"):
        CategoricalCoder(4).encode(RangeEncoder(), np.array([4]))


@pytest.mark.parametrize("frequencies", [[1, 2, 3], [0, 0, 0, 2**24], np.zeros((2, 2), int)])
def test_malformed_frequencies_are_refused(frequencies):
    with pytest.raises(WeightsError, match="prior of z"):
        CategoricalCoder(4, np.array(frequencies))


def test_an_option_that_the_weights_lack_is_an_error():
    with pytest.raises(BitstreamError, match="prior"):
        CategoricalCoder(4).decode(RangeDecoder(b""), np.zeros(3), option=True)


def test_the_option_leaves_certain_zeros_out():
    symbols, index = np.array([0, 3, 0, -2]), np.array([0, 90, 0, 90], np.uint8)
    assert GAUSSIAN.wants_option(symbols, index)
    assert not GAUSSIAN.wants_option(symbols, np.zeros(4, np.uint8))
    streams = []
    for repeats in (1, 1000):
        encoder = RangeEncoder()
        many = np.repeat(index, np.where(index, 1, repeats))
        coded = np.repeat(symbols, np.where(index, 1, repeats))
        GAUSSIAN.encode(encoder, coded, many, option=True)
        streams.append(encoder.finish())
        decoded = GAUSSIAN.decode(RangeDecoder(streams[-1]), many, option=True)
        np.testing.assert_array_equal(decoded, coded)
        bits = GAUSSIAN.bits(coded, many, option=True)
        assert bits[many == 0].sum() == 0
        assert abs(8 * len(streams[-1]) - bits.sum()) < 8.1
    assert streams[0] == streams[1]


def test_fewest_bits_is_what_the_cheapest_symbol_costs():
    every = np.arange(tables.gaussian().count)
    cheapest = GAUSSIAN.bits(np.zeros(every.shape, int), every).min()
    assert GAUSSIAN.fewest_bits() == pytest.approx(cheapest)
    assert GAUSSIAN.fewest_bits(option=True) == 0
    assert CategoricalCoder(8).fewest_bits() == 3
