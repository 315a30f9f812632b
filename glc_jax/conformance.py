"""A corpus of .glc files with what each decodes to: whether a decoder is one is decided by it.

A corpus is a folder, or a zip archive of it, with `manifest.json`, .glc files, and the weights that
are not packaged. For each file the manifest has the SHA-256 of the integers that its symbols stand
for, which must be met exactly, and its picture's means over 8 x 8 fields, which may differ by
TOLERANCE: the generator runs in floats. scripts/make_conformance.py makes one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glc_jax import weights
from glc_jax.errors import BitstreamError, GLCError, InputError

if TYPE_CHECKING:
    from glc_jax.codec import Codec

FORMAT = "glc_jax.conformance/1"
MANIFEST = "manifest.json"
FIELDS = 8
TOLERANCE = 1.0
"""In levels of 0 .. 255, of a field's mean."""


class Verdict(NamedTuple):
    """Of one file: None and the reason where its weights are missing."""

    name: str
    conforms: bool | None
    reason: str | None


def integers_of(arrays: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Shape and SHA-256 of each array of integers, row-major, as little-endian int32."""
    return [
        {
            "shape": list(array.shape),
            "sha256": hashlib.sha256(array.astype("<i4").tobytes()).hexdigest(),
        }
        for array in arrays
    ]


def fields_of(picture: np.ndarray) -> list[list[list[float]]]:
    """Means of a picture uint8 [height, width, 3] over a grid of at most 8 x 8 fields."""
    rows, columns = (
        np.array_split(np.arange(side), min(FIELDS, side)) for side in picture.shape[:2]
    )
    return [[picture[np.ix_(y, x)].mean((0, 1)).round(2).tolist() for x in columns] for y in rows]


def entry(codec: Codec, data: bytes, name: str, weights_name: str) -> dict[str, Any]:
    """What the manifest has of a file."""
    picture = codec.decompress(data)
    return {
        "name": name,
        "weights": weights_name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "height": picture.shape[0],
        "width": picture.shape[1],
        "integers": integers_of(codec.integers(data)),
        "fields": fields_of(picture),
    }


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder of a corpus, also of one in a zip archive.

    Raises:
      InputError: there is none.
    """
    with tempfile.TemporaryDirectory() as temporary:
        if path.is_file():
            try:
                with zipfile.ZipFile(path) as archive:
                    archive.extractall(temporary)
            except (zipfile.BadZipFile, OSError) as error:
                raise InputError(f"{path}: no zip archive of a corpus ({error}).") from error
            path = pathlib.Path(temporary)
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path}: holds no {MANIFEST}, so it is no corpus.")
        yield path


def manifest(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a corpus.

    Raises:
      InputError: it is none, or of a newer kind.
    """
    try:
        found = json.loads((folder / MANIFEST).read_text())
        kind = found["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / MANIFEST}: no manifest of a corpus ({error}).") from error
    if kind != FORMAT:
        raise InputError(f"{folder / MANIFEST}: of the kind {kind!r}, and this reads {FORMAT}.")
    return found


def weights_path(folder: pathlib.Path, about: dict[str, Any]) -> pathlib.Path | None:
    """The weights file that a manifest's entry means; None where it is not at hand."""
    path = weights.find(bytes.fromhex(about["fingerprint"]))
    if about["file"] is not None:
        path = folder / about["file"]
    if path is None or not path.is_file() or weights.describe(path).digest != about["digest"]:
        return None
    return path


def verdict(codec: Codec, folder: pathlib.Path, expected: dict[str, Any]) -> Verdict:
    """Whether one file of a corpus decodes to what it should."""
    name = expected["name"]
    try:
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise BitstreamError("not the file that the manifest describes.")
        if integers_of(codec.integers(data)) != expected["integers"]:
            return Verdict(name, False, "other integers")
        fields = np.array(fields_of(codec.decompress(data)))
        if fields.shape != np.shape(expected["fields"]):
            return Verdict(name, False, "a picture of another size")
        difference = float(abs(fields - expected["fields"]).max())
        if difference > TOLERANCE:
            return Verdict(name, False, f"another picture: fields differ by up to {difference:.1f}")
    except (OSError, GLCError) as error:
        return Verdict(name, False, str(error))
    return Verdict(name, True, None)
