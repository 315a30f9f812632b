"""Files of every format version, written once, stay readable; an independent decoder agrees.

Nothing in tests/data/version_* is ever made anew: if one of these tests fails, the reader is wrong.
"""

import pathlib

import numpy as np
import pytest

from glc_jax import bitstream, weights
from glc_jax.codec import Codec
from tests import independent_decoder, kept_files, small_model

TABLES = pathlib.Path(bitstream.__file__).parent / "entropy" / "gaussian_tables.npz"


@pytest.fixture(scope="module", params=kept_files.VERSIONS, ids="version_{}".format)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def codec(version):
    return Codec(weights.load(kept_files.folder(version) / "small.safetensors"))


def test_the_files_use_what_the_format_has(version):
    files = kept_files.files(version).values()
    containers = [bitstream.parse(data) for data, _ in files]
    assert {container.version for container in containers} == {version}
    for latent in range(2):
        assert {container.options >> latent & 1 for container in containers} == {0, 1}
    assert max(np.abs(wanted["y_q"]).max() for _, wanted in files) > 4  # an escape is possible


def test_they_decode_to_the_recorded_symbols(version, codec):
    for data, wanted in kept_files.files(version).values():
        for key, value in kept_files.decode(data, codec).items():
            np.testing.assert_array_equal(value, wanted[key])


def test_the_independent_decoder_gets_the_same_symbols(version):
    path = kept_files.folder(version) / "small.safetensors"
    tensors = dict(weights.flatten(weights.load(path).tree))
    with np.load(TABLES) as tables:
        tables = dict(tables)
    for data, wanted in kept_files.files(version).values():
        found = independent_decoder.decode(data, tensors, small_model.MULTIPLE, tables)
        np.testing.assert_array_equal(found["symbols/z"], wanted["z_indices"])
        np.testing.assert_array_equal(found["symbols/y"], wanted["y_q"])
        np.testing.assert_array_equal(found["values/y"], wanted["y_hat"])


def test_the_pictures_are_those_of_then(version, codec):
    """Up to float noise: only the symbols are exact."""
    for data, wanted in kept_files.files(version).values():
        difference = codec.decompress(data).astype(int) - wanted["image"]
        assert np.abs(difference).max() <= 2
        assert np.mean(difference != 0) < 0.02


@pytest.mark.parametrize("level", [0, 1, 100, 252])
def test_what_a_level_means(level):
    """Of version 1 multiples of 1/84, whatever the model; of version 2 a share of its range."""
    container = bitstream.Container(64, 64, level, b"ab", b"", 0, 0)
    assert container.rate(5.0) == pytest.approx(5 * level / 252)
    old = bitstream.Container(64, 64, level, b"ab", b"", 0, 0, version=1)
    assert old.rate(5.0) == pytest.approx(level / 84)
