"""What scripts/benchmark.py --input measures."""

import numpy as np
import pytest
from PIL import Image

from glc_jax.data.pipeline import training_batches
from glc_jax.data.sources import FolderSource
from glc_jax.errors import InputError
from glc_jax.training import input_speed
from tests.training import small


def test_jpegs_have_the_size_and_crops_are_counted(tmp_path):
    photos = sorted(small.folder(tmp_path / "photos", 3).iterdir())
    jpegs = tmp_path / "jpegs"
    jpegs.mkdir()
    input_speed.write_jpegs(photos, jpegs, 0.01)
    sizes = [Image.open(path).size for path in sorted(jpegs.iterdir())]
    assert len(sizes) == 3
    np.testing.assert_allclose([w * h for w, h in sizes], 1e4, rtol=0.02)
    batches = training_batches(
        FolderSource(jpegs), batch=4, crop=64, scale=(0.5, 1.0), flip=True, seed=0
    )
    speed = input_speed.measure_input(batches, 5)
    assert speed.images == 20
    assert speed.images_per_second == speed.images / speed.cpu_seconds > 0
    with pytest.raises(InputError, match="no pictures"):
        input_speed.write_jpegs([], jpegs, 1)
