import numpy as np
import pytest
import scipy.interpolate

from glc_jax.metrics.bd_rate import bd_rate

RATES = [0.024, 0.028, 0.033, 0.037]
PSNR = [21.32, 21.73, 22.07, 22.28]


def test_the_same_curve_at_scaled_rates():
    found = bd_rate(RATES, PSNR, [0.94 * rate for rate in RATES], PSNR)
    np.testing.assert_allclose(found, (-6, 1), atol=1e-9)


def test_equals_the_integral_of_scipys_interpolation():
    rates, quality = [0.02, 0.03, 0.05], [21.0, 21.9, 23.0]
    low, high = max(PSNR[0], quality[0]), min(PSNR[-1], quality[-1])
    grid = np.linspace(low, high, 20001)
    ours = scipy.interpolate.PchipInterpolator(quality, np.log(rates))(grid)
    anchor = scipy.interpolate.PchipInterpolator(PSNR, np.log(RATES))(grid)
    expected = 100 * (np.exp(np.mean(ours - anchor)) - 1)
    found = bd_rate(RATES, PSNR, rates, quality)
    np.testing.assert_allclose(found.percent, expected, rtol=1e-3)
    np.testing.assert_allclose(found.overlap, (high - low) / (23.0 - 21.0))


def test_order_does_not_matter_and_distances_fall():
    lpips = [0.196, 0.180, 0.168, 0.161]
    found = bd_rate(RATES, lpips, [r * 1.1 for r in RATES][::-1], lpips[::-1], False)
    np.testing.assert_allclose(found.percent, 10, atol=1e-9)


def test_a_point_given_twice_counts_once():
    found = bd_rate(RATES, PSNR, [RATES[0], *RATES], [PSNR[0], *PSNR])
    np.testing.assert_allclose(found, (0, 1), atol=1e-9)


@pytest.mark.parametrize(
    ("rates", "quality"),
    [
        ([0.03], [21.5]),
        (RATES, [value + 5 for value in PSNR]),
        (RATES, PSNR[::-1]),
        (RATES, [21.5, 21.5, 21.7, 22.0]),
        (RATES, [*PSNR[:3], np.inf]),
        ([0, *RATES[1:]], PSNR),
    ],
)
def test_undefined(rates, quality):
    assert bd_rate(RATES, PSNR, rates, quality) is None
