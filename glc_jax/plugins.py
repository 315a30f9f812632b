"""Picture formats that Pillow reads and writes with a plugin's help: JPEG XL and HEIC.

A plugin that is installed is loaded when a picture turns out not to be Pillow's own; one that is
not is named in the message.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image


class Plugin(NamedTuple):
    """module: registers the format when it is imported, or by its function `register`."""

    module: str
    package: str
    suffixes: tuple[str, ...]
    register: str | None = None


PLUGINS = (
    Plugin("pillow_jxl", "pillow-jxl-plugin", (".jxl",)),
    Plugin("pillow_heif", "pillow-heif", (".heic", ".heif", ".hif"), "register_heif_opener"),
)

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@functools.cache
def load() -> bool:
    """Registers the formats of the plugins that are installed; whether there are any."""
    found = False
    for plugin in PLUGINS:
        try:
            module = importlib.import_module(plugin.module)
        except ImportError:
            continue
        if plugin.register:
            getattr(module, plugin.register)()
        found = True
    return found


def open_image(source: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """`PIL.Image.open`, with the plugins where Pillow alone does not know the format."""
    from PIL import Image, UnidentifiedImageError

    if not isinstance(source, (str, os.PathLike)):
        if not source.seekable():
            source = io.BytesIO(source.read())
        source.seek(0)
    try:
        return Image.open(source)
    except UnidentifiedImageError:
        if not load():
            raise
        if not isinstance(source, (str, os.PathLike)):
            source.seek(0)
        return Image.open(source)


def suffix_of(source: str | os.PathLike[str] | IO[bytes]) -> str:
    """ ".jxl" or ".heic" where a file's first bytes are of that format, else "" ."""
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                start = file.read(12)
        else:
            source.seek(0)
            start = source.read(12)
    except OSError:
        return ""
    if start[:2] == b"\xff\x0a" or start[4:8] == b"JXL ":
        return ".jxl"
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        return ".heic"
    return ""


def hint(suffix: str) -> str:
    """The end of a sentence that names the plugin for a suffix, where it is not installed."""
    for plugin in PLUGINS:
        if suffix in plugin.suffixes:
            try:
                importlib.import_module(plugin.module)
            except ImportError:
                return f"; pip install {plugin.package} adds {plugin.suffixes[0]}"
    return ""


def is_known(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name is of one of these formats."""
    return Path(name).suffix.lower() in {s for plugin in PLUGINS for s in plugin.suffixes}
