"""Pickles of arrays are read; pickles that do more are refused before they do it."""

import collections
import hashlib
import pickle

import numpy as np
import pytest

from glc_jax.errors import WeightsError
from glc_jax.metrics import array_pickle


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [3, 4])
def test_round_trip(protocol):
    tree = {
        "a": [np.arange(6, dtype=np.float32).reshape(2, 3), (1, 2.5, "x", None, True)],
        "b": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    }
    found = array_pickle.loads(pickle.dumps(tree, protocol=protocol))
    np.testing.assert_array_equal(found["a"][0], tree["a"][0])
    np.testing.assert_array_equal(found["b"], tree["b"])
    assert found["a"][1] == tree["a"][1]
    assert found["b"].dtype == np.int64


def test_code_is_refused_and_not_run(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(WeightsError, match="it names"):
        array_pickle.loads(pickle.dumps(Malicious(target)))
    assert not target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"a": np.zeros(9)}, protocol=3)[:-20],
        pickle.dumps(collections.OrderedDict(a=1)),
        pickle.dumps({"a": [np.array([{}, []], dtype=object)]}, protocol=3),
    ],
)
def test_anything_else_is_one_clear_error(data):
    with pytest.raises(WeightsError, match="the data is not a pickle of plain arrays"):
        array_pickle.loads(data)


def test_file_must_have_the_expected_hash(tmp_path):
    path = tmp_path / "weights.ckpt"
    data = pickle.dumps({"a": np.ones(3)}, protocol=3)
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    np.testing.assert_array_equal(array_pickle.read(path, sha256)["a"], 1)
    path.write_bytes(data + b"\0")
    with pytest.raises(WeightsError, match="is not the expected weights file"):
        array_pickle.read(path, sha256)
    with pytest.raises(WeightsError, match="cannot read the weights"):
        array_pickle.read(tmp_path / "absent", sha256)
