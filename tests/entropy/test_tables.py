import numpy as np
import pytest
from scipy.special import ndtr

from glc_jax.entropy import table_making, tables
from glc_jax.errors import WeightsError


def test_stored_gaussian_tables_are_the_computed_ones():
    stored, computed = tables.gaussian(), table_making.compute_gaussian_tables()
    np.testing.assert_array_equal(stored.thresholds, computed.thresholds)
    assert stored.count == computed.count == 150
    for a, b in zip(stored.frequencies, computed.frequencies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_frequencies_are_symmetric_and_sum_to_2_24():
    for frequencies in tables.gaussian().frequencies:
        body = frequencies[:-1]
        np.testing.assert_array_equal(body, body[::-1])
        assert frequencies.sum() == 2**24
        assert frequencies.min() >= 1


def test_arrays_round_trip():
    original = tables.gaussian()
    copy = tables.ScaleTables.from_arrays(original.to_arrays())
    np.testing.assert_array_equal(copy.thresholds, original.thresholds)
    for a, b in zip(copy.frequencies, original.frequencies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_index_puts_each_scale_into_the_nearest_table_in_the_log():
    scale_tables = tables.gaussian()
    wanted = np.arange(1, scale_tables.count)
    scales = 2.0 ** ((wanted - 1) / 16 - 3.25)
    for factor in (2**-0.031, 1.0, 2**0.031):
        fixed = np.rint(scales * factor * 2**20).astype(np.int64)
        np.testing.assert_array_equal(scale_tables.index(fixed, 20), wanted)


def test_index_clamps_at_both_ends():
    extremes = np.array([-(2**40), -1, 0, 1, 2**40])
    assert tables.gaussian().index(extremes, 10).tolist() == [0, 0, 0, 0, 149]


@pytest.mark.parametrize("exponent", [4, 10, 15, 16, 20])
def test_thresholds_at_another_exponent_compare_the_same(exponent):
    scale_tables = tables.gaussian()
    scales = np.arange(0, 2 ** min(exponent + 3, 16))
    exact = np.searchsorted(
        scale_tables.thresholds * 2.0**-16, scales * 2.0**-exponent, side="right"
    )
    np.testing.assert_array_equal(scale_tables.index(scales, exponent), exact)


@pytest.mark.parametrize("scale", [0.2, 0.35, 0.5, 1.0, 3.0, 20.0, 60.0])
def test_coding_costs_at_most_a_fifth_of_a_percent_over_the_entropy(scale):
    """Averaged over scales that fall between the tables."""
    k = np.arange(-1000, 1001)
    magnitude = np.abs(k)
    excess = []
    for s in scale * np.linspace(0.978, 1.022, 9):
        p = ndtr((0.5 - magnitude) / s) - ndtr((-0.5 - magnitude) / s)
        index = tables.gaussian().index(np.array([int(s * 2**16)]), 16)
        cost = tables.gaussian().bits(k, np.full(k.shape, index[0]))
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        excess.append((p * cost).sum() / entropy - 1)
    assert 0 < np.mean(excess) < 0.002


def test_certain_zeros_cost_next_to_nothing_and_surprises_17_bits():
    zero, one = tables.gaussian().bits(np.array([0, 1]), np.array([0, 0]))
    assert zero < 1.5e-4
    assert 16 < one < 17


def test_bits_of_an_escape_grow_with_the_logarithm():
    bits = tables.gaussian().bits(np.array([5, 6, 8, 1028]), np.zeros(4, np.uint8))
    np.testing.assert_array_equal(bits - 24 + np.log2(table_making.ESCAPE_FREQUENCY), [2, 4, 6, 22])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("thresholds", lambda a: a[::-1]),
        ("thresholds", lambda a: a[1:]),
        ("frequencies", lambda a: a + 1),
        ("frequencies", lambda a: a[:-1]),
        ("frequencies", lambda a: np.zeros_like(a)),
        ("radius", lambda a: -a),
    ],
)
def test_malformed_arrays_are_refused(name, change):
    arrays = tables.gaussian().to_arrays()
    arrays[name] = change(arrays[name])
    with pytest.raises(WeightsError):
        tables.ScaleTables.from_arrays(arrays)


def test_missing_arrays_are_refused():
    with pytest.raises(WeightsError, match="incomplete"):
        tables.ScaleTables.from_arrays({})
