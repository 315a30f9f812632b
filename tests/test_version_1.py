"""Files of format version 1, written once, stay readable; an independent decoder agrees.

Nothing in tests/data/version_1 is ever made anew: if one of these tests fails, the reader is wrong.
"""

import pathlib

import numpy as np
import pytest

from glc_jax import bitstream, weights
from glc_jax.codec import Codec
from tests import independent_decoder, small_model
from tests.make_version_1_files import decode

FOLDER = pathlib.Path(__file__).parent / "data" / "version_1"
NAMES = sorted(path.stem for path in FOLDER.glob("*.glc"))
TABLES = pathlib.Path(bitstream.__file__).parent / "entropy" / "gaussian_tables.npz"


@pytest.fixture(scope="module")
def loaded():
    return weights.load(FOLDER / "small.safetensors")


def files():
    return [
        ((FOLDER / f"{name}.glc").read_bytes(), np.load(FOLDER / f"{name}.npz")) for name in NAMES
    ]


def test_the_files_use_what_the_format_has():
    containers = [bitstream.parse(data) for data, _ in files()]
    for flag in ("z_prior", "zeros_skipped"):
        assert {getattr(c, flag) for c in containers} == {False, True}
    assert max(np.abs(wanted["y_q"]).max() for _, wanted in files()) > 4  # an escape is possible


def test_they_decode_to_the_recorded_symbols(loaded):
    for data, wanted in files():
        found = decode(data, loaded)
        for key, value in found.items():
            np.testing.assert_array_equal(value, wanted[key])


def test_the_independent_decoder_gets_the_same_symbols(loaded):
    tensors = dict(weights.flatten(loaded.tree))
    with np.load(TABLES) as tables:
        tables = dict(tables)
    for data, wanted in files():
        found = independent_decoder.decode(data, tensors, small_model.MULTIPLE, tables)
        for key, value in found.items():
            np.testing.assert_array_equal(value, wanted[key])


def test_the_pictures_are_those_of_then(loaded):
    """Up to float noise: only the symbols are exact."""
    codec = Codec(loaded)
    for data, wanted in files():
        difference = codec.decompress(data).astype(int) - wanted["image"]
        assert np.abs(difference).max() <= 2
        assert np.mean(difference != 0) < 0.02
