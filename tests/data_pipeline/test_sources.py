"""Folders with all sorts of files, and a TFDS data set built on the spot."""

import errno
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from glc_jax.data.sources import FolderSource, SyntheticSource, TFDSSource
from glc_jax.errors import ConfigError, InputError
from tests.small_model import picture

COUNT = 5


def test_a_folder_gives_its_pictures_in_the_order_of_their_names(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.png", "a.png", "deeper/c.webp"):
        Image.fromarray(picture(20, 30, len(name))).save(tmp_path / name, lossless=True)
    (tmp_path / "notes.txt").write_text("no picture")
    source = FolderSource(tmp_path)
    assert [source.name(i) for i in range(len(source))] == [
        str(tmp_path / name) for name in ("a.png", "b.png", "deeper/c.webp")
    ]
    np.testing.assert_array_equal(source[0], picture(20, 30, 5))


def test_damaged_and_transparent_pictures(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    source = FolderSource(tmp_path)
    assert (source[0] == 255).all()
    with pytest.raises(InputError, match=r"damaged\.jpg"):
        source[1]


@pytest.mark.parametrize("failures", [0, 2, 9])
def test_a_read_that_fails_is_tried_again_and_given_up_in_the_end(tmp_path, monkeypatch, failures):
    Image.fromarray(picture(20, 30)).save(tmp_path / "a.png")
    source, left, read = FolderSource(tmp_path), [failures], pathlib.Path.read_bytes

    def unreliable(path):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, "the network is away")
        return read(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", unreliable)
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    if failures == 9:
        with pytest.raises(InputError, match=r"a\.png: cannot be read \(the network is away\)"):
            source[0]
        assert left == [5]  # four attempts
    else:
        np.testing.assert_array_equal(source[0], picture(20, 30))
    assert pauses == [0.2, 1.0, 5.0][:failures]  # seconds


def test_a_file_that_is_gone_is_not_waited_for(tmp_path, monkeypatch):
    Image.fromarray(picture(20, 30)).save(tmp_path / "a.png")
    source = FolderSource(tmp_path)
    (tmp_path / "a.png").unlink()
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(InputError, match="cannot be read"):
        source[0]


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        FolderSource(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        FolderSource(tmp_path / "missing")


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A data set "small_pictures" with pictures [20, 30 + i, 3], as TFDS writes one."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class SmallPictures(tfds.core.GeneratorBasedBuilder):
        """Made-up pictures."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.Scalar(np.int64)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(COUNT):
                file = io.BytesIO()  # encoded already: TFDS would ask TensorFlow to do it
                Image.fromarray(picture(20, 30 + i, i)).save(file, "png")
                file.seek(0)
                yield str(i), {"image": file, "label": i}

    folder = tmp_path_factory.mktemp("tfds")
    builder = SmallPictures(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return folder


def test_a_tfds_data_set_is_read_at_random(tfds_folder):
    source = TFDSSource("small_pictures", data_dir=str(tfds_folder))
    assert len(source) == COUNT
    pictures = [source[i] for i in reversed(range(COUNT))]
    found = {image.shape[1] - 30: image for image in pictures}  # TFDS shuffles
    assert sorted(found) == list(range(COUNT))
    for i, image in found.items():
        np.testing.assert_array_equal(image, picture(20, 30 + i, i))


def test_what_a_tfds_data_set_lacks_is_said(tfds_folder):
    with pytest.raises(ConfigError, match="no feature 'hr'; it has image, label"):
        TFDSSource("small_pictures", key="hr", data_dir=str(tfds_folder))
    with pytest.raises(ConfigError, match="cannot be opened"):
        TFDSSource("small_pictures", split="validation", data_dir=str(tfds_folder))
    with pytest.raises(ConfigError, match="cannot be opened"):
        TFDSSource("no_such_pictures", data_dir=str(tfds_folder))


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), "u1")],
)
def test_a_record_that_is_no_picture_is_passed_over(image):
    source = TFDSSource.__new__(TFDSSource)
    source.dataset, source.key, source.records = "odd", "image", [{"image": image}]
    with pytest.raises(InputError, match=r"odd\[0\] is no 8-bit RGB picture"):
        source[0]
    source.records = [{"image": np.full((4, 5, 1), 7, np.uint8)}]
    np.testing.assert_array_equal(source[0], np.full((4, 5, 3), 7))


def test_made_up_pictures_are_those_of_their_numbers():
    source = SyntheticSource(3)
    np.testing.assert_array_equal(source[1], SyntheticSource(9)[1])
    assert (source[0] != source[1]).mean() > 0.5
    with pytest.raises(ConfigError, match="0 made-up pictures"):
        SyntheticSource(0)
