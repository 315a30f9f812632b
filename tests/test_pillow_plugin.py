"""The .glc format in Pillow, with a stand-in for the codec behind real containers."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import glc_jax
from glc_jax import bitstream, pillow_plugin, weights
from glc_jax.errors import BitstreamError, InputError

HEIGHT, WIDTH = 20, 30


class StandIn:
    """Writes the rate and the top left pixel; reads a picture of that colour."""

    highest_rate = 3.0
    decoded = 0

    def __init__(self, path, restorer=None):
        self.fingerprint = weights.describe(path).fingerprint
        self.restorer = restorer or "packaged"

    def compress(self, image, rate, restore):
        rate = 1.5 if rate is None else rate
        if not isinstance(rate, float | int) or not 0 <= rate <= 3:
            raise InputError(f"rate {rate} is not within 0 .. 3.")
        height, width, _ = image.shape
        return bitstream.serialise(
            bitstream.Container(
                width,
                height,
                bitstream.nearest_level(rate, 3),
                self.fingerprint,
                self.restorer.encode() if restore else image[0, 0].tobytes(),
                0,
                0,
            )
        )

    def compress_to_size(self, image, target_bytes, restore):
        rate = 3.0 if target_bytes > 100 else 0.0
        return self.compress(image, rate, restore), rate

    def decompress(self, data, max_pixels):
        assert max_pixels is None
        StandIn.decoded += 1
        container = bitstream.parse(data)
        color = np.frombuffer(container.payload, np.uint8)
        if color.size != 3:
            raise BitstreamError("This .glc file is damaged.")
        return np.broadcast_to(color, (container.height, container.width, 3))


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """A weights file that GLC_WEIGHTS names, and the stand-in for the codec."""
    path = tmp_path / "model.safetensors"
    weights.save(path, {"params": {"kernel": np.zeros(2)}}, {"name": "stand-in", "model": {}})
    monkeypatch.setenv(weights.VARIABLE, str(path))
    monkeypatch.setattr(pillow_plugin, "_codec", StandIn)
    monkeypatch.setattr(StandIn, "decoded", 0)
    return path


def teal() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), "teal")


def stored(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="GLC", **options)
    return buffer.getvalue()


def test_there_and_back(tmp_path):
    teal().save(tmp_path / "x.glc", rate=0.25)
    with Image.open(tmp_path / "x.glc") as image:
        assert image.format == "GLC"
        assert image.get_format_mimetype() == "image/x-glc"
        assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
        assert image.info["rate"] == 0.25
        np.testing.assert_array_equal(np.asarray(image), np.asarray(teal()))


def test_opening_decodes_nothing_and_loading_once():
    image = Image.open(io.BytesIO(stored(teal())))
    assert StandIn.decoded == 0
    image.load()
    image.load()
    assert image.getpixel((5, 5)) == teal().getpixel((5, 5))
    assert StandIn.decoded == 1


def test_options_of_save():
    assert bitstream.parse(stored(teal())).rate(3) == 1.5
    with pytest.warns(UserWarning, match="5,000 bytes are out of reach"):
        assert bitstream.parse(stored(teal(), target_bytes=5000)).rate(3) == 3
    with pytest.warns(UserWarning, match=r"^10 bytes are out of reach; the nearest file has 16 "):
        assert bitstream.parse(stored(teal(), target_bytes=10)).rate(3) == 0
    with pytest.raises(OSError, match="rate and target_bytes do not go together"):
        stored(teal(), rate=1, target_bytes=5000)
    assert bitstream.parse(stored(teal(), rate=2, target_bytes=None)).rate(3) == 2
    with pytest.raises(OSError, match="named by a string or a path, not by int"):
        stored(teal(), weights=5)
    with pytest.raises(OSError, match="7 is not a colour"):
        stored(Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0)), background=7)


def test_a_restored_picture_is_saved():
    assert bitstream.parse(stored(teal(), restore=True)).payload == b"packaged"
    data = stored(teal(), restore=True, restorer="mine", rate=3)
    assert (bitstream.parse(data).payload, bitstream.parse(data).rate(3)) == (b"mine", 3)
    assert stored(teal(), restore=False) == stored(teal())
    with pytest.raises(OSError, match="restorer says what restore=True"):
        stored(teal(), restorer="mine")


def test_weights_of_save(tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    weights.save(other, {"params": {"kernel": np.ones(2)}}, {"name": "other", "model": {}})
    data = stored(teal(), weights=other)
    assert bitstream.parse(data).fingerprint == weights.describe(other).fingerprint
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="made with weights"):
        image.load()
    monkeypatch.setenv(weights.VARIABLE, str(other))
    with Image.open(io.BytesIO(data)) as image:
        image.load()


def test_any_mode_is_saved_as_a_reader_would_show_it():
    data = stored(Image.new("L", (WIDTH, HEIGHT), 77))
    assert bitstream.parse(data).payload == bytes([77, 77, 77])
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    assert bitstream.parse(stored(clear, background="#010203")).payload == b"\1\2\3"
    with pytest.raises(OSError, match="transparent"):
        stored(clear)


@pytest.mark.parametrize("options", [{"rate": 4}, {"weights": "missing.safetensors"}])
def test_failed_save_leaves_no_file(tmp_path, options):
    with pytest.raises(OSError, match=r"rate 4|no such weights file"):
        teal().save(tmp_path / "x.glc", **options)
    assert not (tmp_path / "x.glc").exists()


def test_damaged_files_are_os_errors_and_ours():
    """Both what Pillow's users catch and what this library promises."""
    data = stored(teal())
    with pytest.raises(OSError, match="damaged") as caught:
        Image.open(io.BytesIO(data[:-1]))
    assert isinstance(caught.value, glc_jax.GLCError)
    wrong = bitstream.Container(WIDTH, HEIGHT, 0, bitstream.parse(data).fingerprint, b"12345", 0, 0)
    with Image.open(io.BytesIO(bitstream.serialise(wrong))) as image:
        with pytest.raises(glc_jax.GLCError, match="damaged") as caught:
            image.load()
        assert isinstance(caught.value, OSError)


def test_foreign_files_are_left_to_others():
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"\xc7\xff not a .glc file"))
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b""))
    buffer = io.BytesIO()
    teal().save(buffer, format="PNG")
    assert Image.open(buffer).format == "PNG"


def test_pillows_bomb_limit_holds(monkeypatch):
    data = stored(teal())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))


def test_importing_the_package_registers_the_format(tmp_path):
    (tmp_path / "x.glc").write_bytes(stored(teal()))
    script = (
        "import sys, glc_jax; from PIL import Image; "
        f"print(Image.open({str(tmp_path / 'x.glc')!r}).size, 'jax' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == f"({WIDTH}, {HEIGHT}) False"


def test_lazy_names_of_the_package():
    assert glc_jax.__version__
    assert {"load", "Codec", "GLCError"} <= set(dir(glc_jax))
    with pytest.raises(AttributeError, match="frobnicate"):
        glc_jax.frobnicate  # noqa: B018
