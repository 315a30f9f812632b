"""What names a weights file, and how its tensors lie: laws that `test_codec` takes for granted."""

import copy
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from glc_jax import weights
from glc_jax.errors import BitstreamError

CONFIG = {"name": "few", "model": {"codebook_size": 4, "code_predictor": {"width": 8}}}


def leaves() -> dict[str, np.ndarray]:
    return {
        "params/g_a/bias": np.arange(3, dtype=np.float32),
        "params/code_predictor/kernel": np.ones((2, 2), np.float16),
        "params/vqvae/quantizer/codebook": np.ones((4, 2), np.float32),
        "params/vqvae/encoder/kernel": np.ones(5, np.float16),
        "entropy/arrays/0": np.arange(7, dtype=np.int8),
        "entropy/arrays/1": np.arange(2, dtype=np.int64),
    }


TRAINING = ("params/code_predictor/kernel", "params/vqvae/quantizer/codebook")


@pytest.mark.parametrize("name", leaves())
def test_the_fingerprint_is_over_what_decides_a_file_and_nothing_else(name):
    """The code predictor and stage I's codebook are for training; all of the rest counts."""
    before = weights.fingerprint_of(CONFIG, leaves())
    changed = leaves()
    changed[name].flat[-1] += 1
    assert (weights.fingerprint_of(CONFIG, changed) == before) == (name in TRAINING)
    assert weights.digest_of(CONFIG, changed) != weights.digest_of(CONFIG, leaves())
    del changed[name]
    assert (weights.fingerprint_of(CONFIG, changed) == before) == (name in TRAINING)


def test_the_fingerprint_is_over_the_models_config_without_its_training_parts():
    before = weights.fingerprint_of(CONFIG, leaves())
    config = copy.deepcopy(CONFIG)
    config["model"]["code_predictor"]["width"] = 9
    config["name"] = "another"
    assert weights.fingerprint_of(config, leaves()) == before
    config["model"]["codebook_size"] = 5
    assert weights.fingerprint_of(config, leaves()) != before


def test_tensors_lie_at_multiples_of_their_size_and_come_back(tmp_path):
    tree = weights.unflatten(leaves())
    described = weights.save(tmp_path / "few.safetensors", tree, CONFIG, {"of": "a test"})
    data = (tmp_path / "few.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert start % 8 == 0
    for value in leaves().values():
        at = data.index(value.tobytes(), start) - start
        assert at % value.dtype.itemsize == 0
    read = weights.load(tmp_path / "few.safetensors")
    for path, leaf in weights.flatten(read.tree):
        np.testing.assert_array_equal(leaf, leaves()[path])
    assert described.parameters == 3 + 4 + 8 + 5
    assert (read.fingerprint, read.provenance) == (described.fingerprint, {"of": "a test"})


def test_bfloat16_is_read_without_jax(tmp_path):
    """As `glc info` reads it: what JAX would have given NumPy is not there."""
    path = tmp_path / "w.safetensors"
    values = np.arange(4).astype(ml_dtypes.bfloat16)
    weights.save(path, {"params": {"kernel": values}}, {"name": "w", "model": {}})
    code = (
        "import sys; from glc_jax import weights; tree = weights.load(sys.argv[1]).tree; "
        "print(tree['params']['kernel'].astype('float32').tolist(), 'jax' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[0.0, 1.0, 2.0, 3.0] False\n", "")


def test_what_decodes_a_file_is_the_named_weights_only_where_they_are_its_own(
    tmp_path, monkeypatch
):
    path = tmp_path / "mine.safetensors"
    config = {"name": "mine", "model": {"rate_points": 3}}
    mine = weights.save(path, {"params": {"k": np.zeros(2, np.float32)}}, config).fingerprint
    packaged = weights.packaged()["tiny"]
    theirs = weights.describe(packaged).fingerprint
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    assert weights.at_hand(mine) is None
    with pytest.raises(BitstreamError, match=f"weights {mine.hex()}, which no packaged model has"):
        weights.matching(mine)
    monkeypatch.setenv(weights.VARIABLE, str(path))
    assert weights.matching(mine) == path
    assert weights.matching(theirs) == packaged
    assert (weights.highest_rate(mine), weights.highest_rate(b"??")) == (2, 3)
