"""The codec's float numbers against the official PyTorch code's, end to end (GLC.md).

A value of y that lies within float error of a rounding boundary may flip, which then moves its
neighbours; so this has tolerances where tests/models/test_golden.py is sharp.
"""

import numpy as np
import pytest

from glc_jax import weights
from glc_jax.codec import Codec
from tests import official_weights

Y_Q_FLIPS = 1e-4  # share of y_q that may differ
BITS = 2e-4  # relative
MEAN_LEVELS = 0.3  # of the 8-bit picture


@pytest.mark.slow
@pytest.mark.parametrize("file", ["a", "b", "c", "f"])
def test_end_to_end(reference, file):
    golden = np.load(reference / f"golden_{file}.npz")
    config = {"name": "seeded", "model": official_weights.MODEL}
    tree = official_weights.variables(int(golden["seed"]))
    codec = Codec(weights.Weights(tree, config, provenance={}, digest="", fingerprint=b"00"))
    estimate = codec.estimate(golden["image"], float(golden["q_index"]))
    np.testing.assert_array_equal(estimate.z_indices, golden["z_indices"])
    assert np.mean(estimate.y_q.transpose(2, 0, 1) != golden["y_q"]) <= Y_Q_FLIPS
    assert estimate.bits_y == pytest.approx(golden["bit_y"], rel=BITS)
    assert estimate.bits_z == pytest.approx(golden["bit_z"], rel=BITS)
    wanted = golden["x_hat_u8"].astype(int)
    assert np.abs(estimate.reconstruction.astype(int) - wanted).mean() <= MEAN_LEVELS
