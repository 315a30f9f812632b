"""scripts/fit_preview.py: a map for weights that have none, and nothing else changed."""

import numpy as np
import pytest
from PIL import Image

from glc_jax import weights
from scripts import fit_preview
from tests import small_model


@pytest.mark.slow
def test_a_map_is_added_and_nothing_else_changes(tmp_path, capsys):
    before = small_model.write_weights(tmp_path / "small.safetensors")
    (tmp_path / "photos").mkdir()
    Image.fromarray(small_model.picture(64, 64)).save(tmp_path / "photos" / "a.png")
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"a photograph, say")
    command = [str(before.path), "--data", str(tmp_path / "photos"), "--batches", "1"]
    command += ["--crop", "16"]
    for output in (before.path, mine):
        assert fit_preview.main([*command, "-o", str(output)]) == 1
    assert mine.read_bytes() == b"a photograph, say"
    assert weights.describe(before.path).digest == before.digest
    output = tmp_path / "with_map.safetensors"
    assert fit_preview.main([*command, "-o", str(output)]) == 0
    assert before.fingerprint.hex() in capsys.readouterr().out
    found = dict(weights.flatten(weights.load(output).tree))
    shape = (small_model.MODEL["rate_points"], 9, small_model.CHANNELS + 1, 1, 1, 3)
    assert found.pop("preview/map").shape == shape
    kept = dict(weights.flatten(weights.load(before.path).tree))
    assert kept.keys() == found.keys()
    for name, leaf in kept.items():
        np.testing.assert_array_equal(leaf, found[name])
