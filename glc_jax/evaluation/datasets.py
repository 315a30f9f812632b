"""The pictures of an evaluation, and the data sets whose published protocol is known."""

import collections
import dataclasses
import functools
import pathlib
import typing
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from glc_jax import images, plugins
from glc_jax.errors import ConfigError, InputError
from glc_jax.metrics import patches

DEFAULT_PATCH_SIZE = 256
TFDS = "tfds"


class Picture(NamedTuple):
    """One picture of a data set.

    key: a name that is unique in the data set and fit for a file name; name: what a reader is
    shown; load: gives uint8 [H, W, 3], or raises InputError.
    """

    key: str
    name: str
    load: Callable[[], np.ndarray]


class Degradation(typing.Protocol):
    """What spoils a picture before it is coded, as `glc_jax.data.degrade.parse` gives it.

    name: unique, and fit for a file name.
    """

    name: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [H, W, 3], the same every time."""
        ...


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A published test set.

    patch_size is that of its FID and KID; patch_counts holds, per patch size, how many patches
    all its pictures give; side_pairs the only sizes (longer, shorter) it has, where that is
    known; tfds what TFDS calls it: (data set, split, feature); published the name that
    published_rd.csv gives it.
    """

    name: str
    label: str
    pictures: int
    patch_size: int
    patch_counts: dict[int, int]
    published: str
    side_pairs: frozenset[tuple[int, int]] | None = None
    tfds: tuple[str, str, str] | None = None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="kodak",
            label="Kodak",
            pictures=24,
            patch_size=64,
            patch_counts={64: 4152, 256: 192},
            side_pairs=frozenset({(768, 512)}),
            published="Kodak",
        ),
        Protocol(
            name="clic2020",
            label="CLIC 2020 test",
            pictures=428,
            patch_size=256,
            patch_counts={256: 28650},
            tfds=("clic", "test", "image"),
            published="CLIC 2020",
        ),
        Protocol(
            name="div2k",
            label="DIV2K validation",
            pictures=100,
            patch_size=256,
            patch_counts={256: 6573},
            tfds=("div2k", "validation", "hr"),
            published="DIV2K",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Pictures in a fixed order; protocol is None for pictures of one's own."""

    label: str
    pictures: Sequence[Picture]
    protocol: Protocol | None = None

    @property
    def patch_size(self) -> int:
        """The patches' side for FID and KID, in pixels."""
        return self.protocol.patch_size if self.protocol else DEFAULT_PATCH_SIZE


def load(
    source: str | pathlib.Path,
    name: str | None = None,
    max_pixels: int = images.MAX_PIXELS,
    background: images.Color | None = None,
    leave_out: str | pathlib.Path | None = None,
) -> Dataset:
    """The pictures below the folder `source`, or in TFDS; with `name`, checked to be that set.

    `source` is a folder, or "tfds" or "tfds:DATA_DIR" for a data set that TFDS has prepared
    (`name` then says which; DATA_DIR is TFDS's default folder otherwise). `background` is what
    stands behind transparent pixels; `leave_out` a folder whose pictures are not meant: the report.

    Raises InputError when there are no pictures, or when `name` is given and number or sizes of
    the pictures found are not that set's; ConfigError for an unknown name or data set.
    """
    if name is not None and name not in PROTOCOLS:
        raise ConfigError(f"There is no data set {name!r}; choose from {', '.join(PROTOCOLS)}.")
    protocol = PROTOCOLS.get(name) if name else None
    scheme, _, data_dir = str(source).partition(":")
    if scheme == TFDS and not pathlib.Path(source).exists():
        pictures, sizes = _from_tfds(protocol, data_dir or None)
    else:
        pictures, sizes = _from_folder(pathlib.Path(source), max_pixels, background, leave_out)
    if protocol is None:
        return Dataset(pathlib.Path(source).resolve().name or str(source), pictures)
    check(protocol, len(pictures), sizes, str(source))
    return Dataset(protocol.label, pictures, protocol)


def check(
    protocol: Protocol, count: int, sizes: Callable[[], Sequence[tuple[int, int]]], where: str
) -> None:
    """Raises InputError unless `count` pictures of `sizes` (width, height) are that data set's."""
    if count != protocol.pictures:
        raise InputError(
            f"{where} is not {protocol.label}: it holds {count} pictures, and that set has "
            f"{protocol.pictures}. Leave the data set's name out to evaluate other pictures."
        )
    found = sizes()
    if protocol.side_pairs is not None:
        wrong = [size for size in found if (max(size), min(size)) not in protocol.side_pairs]
        if wrong:
            expected = " or ".join(f"{long} x {short}" for long, short in protocol.side_pairs)
            raise InputError(
                f"{where} is not {protocol.label}: {len(wrong)} pictures are not {expected}, "
                f"the first is {wrong[0][0]} x {wrong[0][1]}."
            )
    for size, expected in protocol.patch_counts.items():
        total = sum(patches.count(height, width, size) for width, height in found)
        if total != expected:
            raise InputError(
                f"{where} is not {protocol.label}: its pictures give {total:,} patches of "
                f"{size} x {size}, and that set gives {expected:,}. Some pictures have other "
                "sizes than the original files."
            )


def _from_folder(
    folder: pathlib.Path,
    max_pixels: int,
    background: images.Color | None,
    leave_out: str | pathlib.Path | None,
) -> tuple[list[Picture], Callable]:
    files = images.find(folder, leave_out=leave_out)
    names = [path.relative_to(folder) for path in files]
    keys = ["__".join(name.with_suffix("").parts) for name in names]
    uses = collections.Counter(key.lower() for key in keys)
    pictures = [
        Picture(
            key if uses[key.lower()] == 1 else "__".join(name.parts),
            str(name),
            functools.partial(images.read, path, max_pixels=max_pixels, background=background),
        )
        for key, name, path in zip(keys, names, files, strict=True)
    ]

    def sizes() -> list[tuple[int, int]]:
        return [_size(path) for path in files]

    return pictures, sizes


def _size(path: pathlib.Path) -> tuple[int, int]:
    """Width and height from the header alone."""
    try:
        with plugins.open_image(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error


def _from_tfds(protocol: Protocol | None, data_dir: str | None) -> tuple[list[Picture], Callable]:
    if protocol is None or protocol.tfds is None:
        available = ", ".join(name for name, each in PROTOCOLS.items() if each.tfds)
        raise ConfigError(f"Name the data set that TFDS is to give: {available}.")
    from glc_jax.data.sources import TFDSSource

    dataset, split, feature = protocol.tfds
    source = TFDSSource(dataset, split, feature, data_dir)
    pictures = [
        Picture(
            f"{protocol.name}-{i:04d}", source.name(i), functools.partial(source.__getitem__, i)
        )
        for i in range(len(source))
    ]

    def sizes() -> list[tuple[int, int]]:
        return [source[i].shape[1::-1] for i in range(len(source))]

    return pictures, sizes
