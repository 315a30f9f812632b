"""The codec's float numbers against the official PyTorch code's, end to end (GLC.md).

A value of y that lies within float error of a rounding boundary may flip, which then moves its
neighbours; so this has tolerances where tests/models/test_golden.py is sharp.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from glc_jax import weights
from glc_jax.codec import Codec
from tests import official_weights
from tests.conftest import REPOSITORY

FILES = ("a", "b", "c", "f")
Y_Q_FLIPS = 1e-4  # share of y_q that may differ
BITS = 2e-4  # relative
MEAN_LEVELS = 0.3  # of the 8-bit picture


def write_estimates(reference: str, folder: str) -> None:
    """What the codec makes of each golden picture, FILE.npz in the folder."""
    for file in FILES:
        golden = np.load(pathlib.Path(reference) / f"golden_{file}.npz")
        config = {"name": "seeded", "model": official_weights.MODEL}
        tree = official_weights.variables(int(golden["seed"]))
        codec = Codec(weights.Weights(tree, config, provenance={}, digest="", fingerprint=b"00"))
        estimate = codec.estimate(golden["image"], float(golden["q_index"]))
        np.savez(pathlib.Path(folder) / f"{file}.npz", **estimate._asdict())


@pytest.fixture(scope="module")
def estimates(reference, tmp_path_factory) -> pathlib.Path:
    """In a process that compiles as a user's does: float64 takes minutes without that."""
    folder = tmp_path_factory.mktemp("estimates")
    code = f"import sys; from {__name__} import write_estimates; write_estimates(*sys.argv[1:])"
    subprocess.run(
        [sys.executable, "-c", code, str(reference), str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_end_to_end(reference, estimates, file):
    golden, found = np.load(reference / f"golden_{file}.npz"), np.load(estimates / f"{file}.npz")
    np.testing.assert_array_equal(found["z_indices"], golden["z_indices"])
    assert np.mean(found["y_q"].transpose(2, 0, 1) != golden["y_q"]) <= Y_Q_FLIPS
    assert found["bits_y"] == pytest.approx(golden["bit_y"], rel=BITS)
    assert found["bits_z"] == pytest.approx(golden["bit_z"], rel=BITS)
    wanted = golden["x_hat_u8"].astype(int)
    assert np.abs(found["reconstruction"].astype(int) - wanted).mean() <= MEAN_LEVELS
