"""Reading: each kind of picture gives the colours that its format's rules say. Writing: atomic."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from glc_jax import images
from glc_jax.errors import InputError, OutputError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def corners() -> Image.Image:
    """3 wide, 2 high; red top left, blue bottom right, green elsewhere."""
    image = Image.new("RGB", (3, 2), GREEN)
    image.putpixel((0, 0), RED)
    image.putpixel((2, 1), BLUE)
    return image


def stored(image: Image.Image, kind: str, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    buffer.seek(0)
    return buffer


def matrix_profile(red_xyz, green_xyz, blue_xyz, gamma=1.0) -> bytes:
    """An ICC version 2 display profile with these primaries (XYZ, D50) and one gamma."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78 + 1)
    tags = {
        b"desc": text,
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz(red_xyz),
        b"gXYZ": xyz(green_xyz),
        b"bXYZ": xyz(blue_xyz),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    header = bytearray(128)
    header[0:4] = struct.pack(">I", offset + len(data))
    header[8:12] = b"\x02\x10\0\0"
    header[12:24] = b"mntrRGB XYZ "
    header[36:40] = b"acsp"
    header[68:80] = b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return bytes(header) + table + data


# sRGB's primaries adapted to D50 (IEC 61966-2-1).
SRGB_XYZ = [(0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)]


def test_plain_rgb_is_untouched():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = images.read(stored(Image.fromarray(pixels), "PNG"))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
    ("orientation", "top_left", "size"),
    [
        (1, RED, (2, 3)),
        (3, BLUE, (2, 3)),
        (2, GREEN, (2, 3)),
        (6, GREEN, (3, 2)),
        (8, GREEN, (3, 2)),
    ],
)
def test_exif_orientation_is_applied(orientation, top_left, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = images.read(stored(corners(), "PNG", exif=exif))
    assert read.shape[:2] == size
    assert tuple(read[0, 0]) == top_left
    red_at = {1: (0, 0), 2: (0, 2), 3: (1, 2), 6: (0, 1), 8: (2, 0)}[orientation]
    assert tuple(read[red_at]) == RED


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_keeps_black_and_white(mode):
    image = Image.new("RGBA", (2, 1), "black")
    image.putpixel((1, 0), (255, 255, 255, 255))
    if mode == "LAB":
        image = Image.frombytes("LAB", (2, 1), bytes([0, 128, 128, 255, 128, 128]))
    else:
        through = {"PA": "LA", "YCbCr": "RGB", "HSV": "RGB", "CMYK": "RGB"}.get(mode, "RGBA")
        image = image.convert(through).convert(mode)
    read = images.to_rgb(image)
    np.testing.assert_array_equal(read, [[[0, 0, 0], [255, 255, 255]]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled(kind):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    read = images.read(stored(Image.fromarray(values), kind))
    np.testing.assert_array_equal(read[..., 0], [[0, 1, 128, 255]])
    assert (read == read[..., :1]).all()


def test_32_bit_grey_is_judged_by_its_values():
    """Masks and scans in 32-bit TIFFs: 0 to 255 are not nearly black."""
    for top in (255, 65535):
        values = np.array([[0, top // 5, top]], dtype=np.int32)
        for image in (stored(Image.fromarray(values), "TIFF"), None):
            read = images.read(image) if image else images.to_rgb(Image.fromarray(values))
            np.testing.assert_array_equal(read[0, :, 0], [0, 51, 255])
    with pytest.raises(InputError, match=r"0 to 70000 are not within 0\.\.65535"):
        images.read(stored(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"))


def test_dark_16_bit_grey_stays_dark():
    """Pillow has the same mode for these as for 32 bits."""
    for kind in ("PNG", "PPM"):
        read = images.read(stored(Image.fromarray(np.full((2, 2), 255, np.uint16)), kind))
        assert (read == 1).all()


def test_float_grey_is_scaled_and_bounded():
    values = np.array([[0, 0.5, 1]], dtype=np.float32)
    read = images.to_rgb(Image.fromarray(values))
    np.testing.assert_array_equal(read[0, :, 0], [0, 128, 255])
    with pytest.raises(InputError, match=r"within 0\.\.1"):
        images.to_rgb(Image.fromarray(values * 3))
    with pytest.raises(InputError, match="nan"):
        images.to_rgb(Image.fromarray(values * np.nan))


def test_profile_of_other_primaries_is_converted():
    swapped = matrix_profile(SRGB_XYZ[1], SRGB_XYZ[0], SRGB_XYZ[2], gamma=2.2)
    read = images.read(stored(corners(), "PNG", icc_profile=swapped))
    np.testing.assert_allclose(read[0, 0], GREEN, atol=3)
    np.testing.assert_allclose(read[0, 1], RED, atol=3)


def test_profile_that_is_srgb_leaves_pixels_alone():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    read = images.read(stored(Image.fromarray(pixels), "PNG", icc_profile=profile))
    np.testing.assert_array_equal(read, pixels)


def test_unusable_profile_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="ICC profile is ignored"):
        read = images.read(stored(corners(), "PNG", icc_profile=b"not a profile"))
    np.testing.assert_array_equal(read, np.asarray(corners()))


def test_opaque_alpha_is_dropped():
    image = corners()
    image.putalpha(255)
    np.testing.assert_array_equal(images.read(stored(image, "PNG")), np.asarray(corners()))


def _transparent(kind: str) -> Image.Image | io.BytesIO:
    """A picture whose pixel (0, 0) is transparent, in every way that files say so."""
    if kind == "RGBA":
        image = corners().convert("RGBA")
        image.putpixel((0, 0), (255, 0, 0, 0))
        return stored(image, "PNG")
    if kind == "RGB key":
        return stored(corners(), "PNG", transparency=RED)
    if kind == "palette":
        image = corners().quantize(4)
        return stored(image, "PNG", transparency=image.getpixel((0, 0)))
    if kind == "GIF":
        image = corners().quantize(4)
        return stored(image, "GIF", transparency=image.getpixel((0, 0)))
    if kind == "grey key":
        return stored(Image.fromarray(np.array([[0, 9]], np.uint8)), "PNG", transparency=0)
    assert kind == "16-bit grey key"
    return stored(Image.fromarray(np.array([[77, 65535]], np.uint16)), "PNG", transparency=77)


TRANSPARENT = ["RGBA", "RGB key", "palette", "GIF", "grey key", "16-bit grey key"]


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_refused(kind):
    with pytest.raises(InputError, match=r"transparent pixels.*--background"):
        images.read(_transparent(kind))


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("background", ["#102030", (16, 32, 48)])
def test_background_shows_through(kind, background):
    read = images.read(_transparent(kind), background=background)
    assert tuple(read[0, 0]) == (16, 32, 48)
    assert tuple(read[0, 1]) != (16, 32, 48)


def test_half_transparent_is_blended():
    image = Image.new("RGBA", (1, 1), (255, 255, 255, 51))  # alpha 0.2
    np.testing.assert_array_equal(images.to_rgb(image, background="black"), [[[51, 51, 51]]])


@pytest.mark.parametrize("color", ["nocolour", "#12", (1, 2), (0, 0, 256), 7, ("a", 1, 2)])
def test_unknown_background_is_refused(color):
    with pytest.raises(InputError, match="not a colour"):
        images.parse_color(color)


def test_animation_gives_its_first_frame_with_a_warning(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, GREEN)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="moving.gif: only the first"):
        read = images.read(tmp_path / "moving.gif")
    np.testing.assert_array_equal(read[0, 0], RED)


def test_a_photograph_with_a_small_copy_beside_it_is_no_animation(tmp_path):
    """As many cameras write them: a JPEG whose further frames are previews."""
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, GREEN)]
    frames[0].save(tmp_path / "photo.mpo", save_all=True, append_images=frames[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.read(tmp_path / "photo.mpo").shape == (4, 4, 3)


def vast_png(side: int) -> bytes:
    """A PNG that claims side x side pixels and holds none."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", 1000) + b"IDAT"


def test_size_is_checked_before_decoding():
    with pytest.raises(InputError, match=r"9000 x 9000 = 81,000,000 pixels.*64,000,000"):
        images.read(io.BytesIO(vast_png(9_000)))
    with pytest.raises(InputError, match="MAX_IMAGE_PIXELS"):  # Pillow's own limit
        images.read(io.BytesIO(vast_png(50_000)), max_pixels=None)


def test_max_pixels():
    data = stored(Image.new("RGB", (100, 50)), "PNG")
    assert images.read(data, max_pixels=5000).shape == (50, 100, 3)
    assert images.read(data, max_pixels=None).shape == (50, 100, 3)
    with pytest.raises(InputError, match=r"100 x 50 = 5,000 pixels.*4,999"):
        images.read(data, max_pixels=4999)


def _spoiled(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "text.png":
        path.write_text("no picture")
    elif name == "cut.png":
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path.write_bytes(stored(Image.fromarray(pixels), "PNG").getvalue()[:3000])
    elif name == "cut.jpg":
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path.write_bytes(stored(Image.fromarray(pixels), "JPEG").getvalue()[:1500])
    elif name == "empty.png":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.png", "no such file"),
        ("folder", "is a folder"),
        ("text.png", "not a picture"),
        ("empty.png", "not a picture"),
        ("cut.png", "truncated"),
        ("cut.jpg", "truncated"),
    ],
)
def test_bad_files_say_which_and_what(tmp_path, name, says):
    path = _spoiled(tmp_path, name)
    with pytest.raises(InputError) as caught:
        images.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_random_damage_is_always_an_input_error():
    """Altered bytes give a picture or an InputError, in every common format."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "AVIF"):
        original = stored(Image.fromarray(pixels), kind).getvalue()
        for _ in range(60):
            data = bytearray(original)
            for position in rng.integers(0, min(len(data), 400), 3):
                data[position] = rng.integers(0, 256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    read = images.read(io.BytesIO(data), max_pixels=10_000, background="white")
                except InputError:
                    continue
            assert read.dtype == np.uint8
            assert read.shape[2] == 3


def test_find_lists_pictures_below_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", ".hidden/d.png", ".e.png"):
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in images.find(tmp_path)]
    assert found == ["a.png", "b.JPG", "sub/c.webp"]


def test_find_refuses_what_holds_no_picture(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        images.find(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        images.find(tmp_path / "missing")


def forbid(monkeypatch, name):
    """Makes a folder unreadable, also to who may read everything."""
    scan = os.scandir

    def scandir(path):
        if os.path.basename(path) == name:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_find_tells_of_folders_that_cannot_be_read(tmp_path, monkeypatch):
    for name in ("a/x.png", "b/y.png", "secret/z.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    forbid(monkeypatch, "secret")
    says = f"{tmp_path}/secret: this folder cannot be read \\(Permission denied\\)"
    with pytest.raises(InputError, match=says):
        images.find(tmp_path)
    unreadable = []
    found = images.find(tmp_path, unreadable=unreadable)
    assert [path.name for path in found] == ["x.png", "y.png"]
    assert [type(error) for error in unreadable] == [InputError]
    with pytest.raises(InputError, match=says):  # not that it holds no pictures
        images.find(tmp_path / "secret", unreadable=[])


def test_find_leaves_out(tmp_path):
    for name in ("a.png", "report/images/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert images.find(tmp_path, leave_out=tmp_path / "report") == [tmp_path / "a.png"]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_encode_is_lossless_where_the_format_can(suffix):
    pixels = np.random.default_rng(2).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    data = images.encode(pixels, f"out{suffix}")
    np.testing.assert_array_equal(images.read(io.BytesIO(data)), pixels)


@pytest.mark.parametrize("quality", [None, 40])
def test_jpegs_keep_every_colour(quality):
    """Stripes of red and blue, one pixel wide, which halved colours would mix."""
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    buffer = stored(Image.fromarray(stripes), "JPEG", quality=quality or 95, subsampling=0)
    expected = np.asarray(Image.open(buffer))
    found = images.read(io.BytesIO(images.encode(stripes, "out.jpg", quality)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.psd"])
def test_encode_refuses_formats_that_are_not_written(name):
    with pytest.raises(OutputError, match=f"{name}: "):
        images.encode(np.zeros((1, 1, 3), np.uint8), name)


def test_encode_refuses_a_format_that_would_shrink_the_picture():
    assert images.encode(np.zeros((64, 64, 3), np.uint8), "small.ico")
    with pytest.raises(OutputError, match="ICO does not hold 600 x 400 pixels"):
        images.encode(np.zeros((400, 600, 3), np.uint8), "large.ico")
