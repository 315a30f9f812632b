"""What users run, as they run it: `glc` and Pillow in processes of their own, with real weights."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import glc_jax
from glc_jax import companions, images, weights
from tests import small_model

HEIGHT, WIDTH = 40, 56


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weights.safetensors and photo.png."""
    folder = tmp_path_factory.mktemp("processes")
    small_model.write_weights(folder / "weights.safetensors")
    Image.fromarray(small_model.picture(HEIGHT, WIDTH)).save(folder / "photo.png")
    return folder


def python(folder, *arguments) -> None:
    """A Python process with a cache folder of its own; must end well and complain of nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"GLC_WEIGHTS": "weights.safetensors", "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.fixture(scope="module")
def expected(folder) -> tuple[bytes, np.ndarray]:
    """The file and the picture that this process makes of photo.png at rate 2.2."""
    codec = glc_jax.load(folder / "weights.safetensors")
    data = codec.compress(images.read(folder / "photo.png"), rate=2.2)
    return data, codec.decompress(data)


def compiled(folder) -> set[str]:
    """The programs in the user's cache folder."""
    return {path.name for path in (folder / "cache" / "glc_jax").glob("*-cache")}


def test_glc_there_and_back(folder, expected):
    """Other processes write and read the same; the second of a kind finds all of it compiled."""
    compress = ("-m", "glc_jax", "compress", "-q", "photo.png", "--rate", "2.2", "-o")
    python(folder, *compress, "photo.glc")
    first = compiled(folder)
    assert first
    python(folder, *compress, "again.glc")
    assert compiled(folder) == first
    python(folder, "-m", "glc_jax", "decompress", "-q", "photo.glc", "-o", "back.png")
    data, picture = expected
    assert (folder / "photo.glc").read_bytes() == (folder / "again.glc").read_bytes() == data
    np.testing.assert_array_equal(images.read(folder / "back.png"), picture)


@pytest.mark.slow
def test_a_restored_file_needs_the_models_weights_alone(folder, expected):
    """Written in one process with a restorer, and drawn in another that knows of none."""
    model, restorer = folder / "weights.safetensors", folder / "restorer.safetensors"
    params = companions.encoder_side(small_model.parameters(1))
    companions.save(restorer, "restorer", "small-restore", params, weights.load(model), {})
    codec = glc_jax.load(model, restorer=restorer)
    data = codec.compress(images.read(folder / "photo.png"), rate=2.2, restore=True)
    options = ("--restore", "--restorer", "restorer.safetensors", "--rate", "2.2")
    python(folder, "-m", "glc_jax", "compress", "-q", "photo.png", *options, "-o", "restored.glc")
    assert (folder / "restored.glc").read_bytes() == data != expected[0]
    restorer.unlink()
    python(folder, "-m", "glc_jax", "decompress", "-q", "restored.glc", "-o", "restored.png")
    picture = images.read(folder / "restored.png")
    np.testing.assert_array_equal(picture, codec.decompress(data))
    assert (picture != expected[1]).any()


@pytest.mark.slow
def test_pillow_there_and_back(folder, expected):
    script = (
        "import glc_jax; from PIL import Image; "
        "Image.open('photo.png').save('pillow.glc', rate=2.2); "
        "Image.open('pillow.glc').save('pillow.png')"
    )
    python(folder, "-c", script)
    data, picture = expected
    assert (folder / "pillow.glc").read_bytes() == data
    np.testing.assert_array_equal(images.read(folder / "pillow.png"), picture)
