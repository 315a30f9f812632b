"""JPEG XL and HEIC: read and written where their plugin is installed, named where it is not."""

import importlib
import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from glc_jax import images, plugins
from glc_jax.errors import InputError, OutputError


def picture() -> np.ndarray:
    rows, columns = np.mgrid[:40, :56]
    return np.stack([4 * columns, 6 * rows, 255 - 4 * columns], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".jxl", ".heic"])
def test_there_and_back(tmp_path, suffix):
    pytest.importorskip({".jxl": "pillow_jxl", ".heic": "pillow_heif"}[suffix])
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(images.encode(picture(), path.name))
    for source in (path, io.BytesIO(path.read_bytes())):
        difference = images.read(source).astype(int) - picture()
        assert abs(difference).max() <= (0 if suffix == ".jxl" else 40)
    assert images.find(tmp_path) == [path]
    small, large = (images.encode(picture(), path.name, quality=q) for q in (10, 95))
    assert len(small) < len(large)
    assert images.was_coded(io.BytesIO(small))


@pytest.fixture
def bare(monkeypatch):
    """Neither plugin is installed."""
    load = importlib.import_module

    def missing(name):
        if name in ("pillow_jxl", "pillow_heif"):
            raise ModuleNotFoundError(name)
        return load(name)

    monkeypatch.setattr(plugins.importlib, "import_module", missing)
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind not in ("JXL", "HEIF")])
    for table in (Image.SAVE, Image.EXTENSION):
        for key in ("JXL", "HEIF", ".jxl", ".heic"):
            monkeypatch.delitem(table, key, raising=False)
    plugins.load.cache_clear()
    yield
    plugins.load.cache_clear()


def test_a_missing_plugin_does_not_hide_the_next(monkeypatch):
    registered = []
    found = types.SimpleNamespace(register=lambda: registered.append("second"))
    monkeypatch.setitem(sys.modules, "first_plugin", None)
    monkeypatch.setitem(sys.modules, "second_plugin", found)
    first = plugins.Plugin("first_plugin", "first", (".one",))
    second = plugins.Plugin("second_plugin", "second", (".two",), "register")
    monkeypatch.setattr(plugins, "PLUGINS", (first, second))
    assert plugins.load.__wrapped__()
    assert registered == ["second"]
    monkeypatch.setattr(plugins, "PLUGINS", (first,))
    assert not plugins.load.__wrapped__()


@pytest.mark.parametrize(
    ("start", "suffix"),
    [
        (b"\xff\x0a" + bytes(9), ".jxl"),
        (b"\0\0\0\x18ftypmif1", ".heic"),
        (b"\0\0\0\x18ftypavif", ""),
        (b"\0\0\0\x18ftypmp42", ""),
        (b"", ""),
    ],
)
def test_formats_are_told_by_their_first_bytes(start, suffix):
    assert plugins.suffix_of(io.BytesIO(start)) == suffix


def test_names_are_known_in_capitals_as_well():
    known = [plugins.is_known(name) for name in ("a.jxl", "B.HEIC", "c.Hif", "d.png", "jxl")]
    assert known == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("name", "start", "package"),
    [
        ("a.jxl", b"\xff\x0a" + bytes(20), "pillow-jxl-plugin"),
        ("b.bin", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "pillow-jxl-plugin"),
        ("c.heic", b"\0\0\0\x18ftypheic" + bytes(20), "pillow-heif"),
    ],
)
def test_missing_plugin_is_named(tmp_path, bare, name, start, package):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(InputError, match=f"not a picture.*pip install {package}"):
        images.read(tmp_path / name)
    if not name.endswith(".bin"):
        with pytest.raises(OutputError, match=f"pip install {package}"):
            images.encode(picture(), name)
