"""scripts/demo.py's own parts: the AVIF of nearest size, the sheet, the numbers."""

import importlib.util
import io
import pathlib

import numpy as np
import pytest
from PIL import Image, features

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.AVIF_SPEED = 10
    return module


@pytest.fixture(scope="module")
def picture(demo) -> np.ndarray:
    with Image.open(demo.sample_photo()) as image:
        return np.asarray(image.resize((96, 64)))


def test_sample_photo_is_there(demo):
    assert demo.sample_photo().name == "china.jpg"
    assert demo.sample_photo().is_file()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("size", [1, 900, 1500, 10**6])
def test_nearest_avif_is_the_nearest_of_all_qualities(demo, picture, size):
    data, quality = demo.nearest_avif(picture, size)
    assert Image.open(io.BytesIO(data)).format == "AVIF"
    distances = []
    for other in range(101):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "AVIF", quality=other, speed=demo.AVIF_SPEED)
        distances.append(abs(len(buffer.getvalue()) - size))
    assert distances[quality] == abs(len(data) - size)
    assert distances[quality] <= min(distances) + 20  # sizes grow with quality, but for a few bytes


def test_a_folder_with_something_else_is_left_alone(demo, tmp_path):
    """`demo.py photo.png --output .` must not replace the photograph."""
    demo.check_folder(tmp_path / "new")
    demo.check_folder(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(SystemExit, match="holds something else"):
        demo.check_folder(tmp_path)
    with pytest.raises(SystemExit, match="holds something else"):
        demo.check_folder(tmp_path / "photo.png")
    (tmp_path / demo.SHEET).write_bytes(b"of an earlier demo")
    demo.check_folder(tmp_path)


def test_psnr(demo):
    """From the definition: an error of 5 everywhere is 20 log10(255 / 5)."""
    dark = np.zeros((4, 4, 3), np.uint8)
    assert demo.psnr(dark, dark + 5) == pytest.approx(20 * np.log10(51))
    assert demo.psnr(dark, dark) == np.inf


def test_sheet_holds_the_pictures_under_their_labels(demo, picture):
    sheet = demo.side_by_side([("one", picture), ("two", 255 - picture)])
    height, width, _ = picture.shape
    assert sheet.shape == (height + demo.LABEL_HEIGHT, 2 * width + demo.GAP, 3)
    np.testing.assert_array_equal(sheet[demo.LABEL_HEIGHT :, :width], picture)
    np.testing.assert_array_equal(sheet[demo.LABEL_HEIGHT :, -width:], 255 - picture)
    for column in (slice(0, width), slice(-width, None)):
        assert (sheet[: demo.LABEL_HEIGHT, column] < 128).any()  # something is written there
