"""Random-access sources of training pictures: a folder, or a TFDS data set.

A source has a length and gives picture `i` as a uint8 RGB array [H, W, 3], or raises `InputError`
where that picture cannot be used. A read that fails is tried again before that (`retry`).
"""

import io
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from glc_jax import images
from glc_jax.data import address
from glc_jax.data.retry import patiently
from glc_jax.errors import ConfigError, InputError


class Source(Protocol):
    """Random access to uint8 pictures [H, W, 3]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...

    def name(self, index: int) -> str:
        """What a message about picture `index` calls it."""
        ...


class FolderSource:
    """Every picture file in a folder, or below an address, in the order of their names.

    What is transparent is laid on white. Raises `InputError` when the folder does not exist or
    holds no file with a picture's suffix.
    """

    def __init__(self, folder: str | pathlib.Path):
        if address.is_address(folder):
            self.files = address.find(str(folder), images.PICTURE_SUFFIXES)
            if not self.files:
                raise InputError(f"{folder}: no pictures in this folder.")
        else:
            self.files = images.find(folder)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return str(self.files[index])

    def __getitem__(self, index: int) -> np.ndarray:
        file, name = self.files[index], self.name(index)
        try:
            data = patiently(lambda: address.read_bytes(file), name)
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror or error}).") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an animation's first frame is a picture, too
            try:
                return images.read(io.BytesIO(data), background="white")
            except InputError as error:
                reason = str(error).removeprefix("standard input: ")
                raise InputError(f"{name}: {reason}") from error


class TFDSSource:
    """One split of a TFDS data set, read without TensorFlow (`tfds.data_source`).

    `name` is what `tfds.data_source` takes ("div2k", "clic", "coco/2017", "open_images_v4",
    "imagenet2012", "celeb_a_hq/256"), `key` the picture's feature ("hr" for div2k, otherwise
    "image"). The data set must have been prepared in `data_dir` (TFDS's default when None);
    where it was not, and in a format that has no random access, `ConfigError` is raised.
    """

    def __init__(
        self, name: str, split: str = "train", key: str = "image", data_dir: str | None = None
    ):
        import tensorflow_datasets as tfds

        self.dataset = name
        self.key = key
        try:
            self.records: Sequence[Any] = tfds.data_source(
                name, split=split, data_dir=data_dir, download=False
            )
        except (AssertionError, NotImplementedError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "unknown"
            raise ConfigError(
                f"The TFDS data set {name} (split {split}) cannot be opened in "
                f"{data_dir or 'the default TFDS folder'}: {reason} "
                "Prepare it first, with file_format='array_record'."
            ) from error
        if len(self.records) == 0:
            raise ConfigError(f"The TFDS data set {name} has no picture in split {split}.")
        features = self.records.dataset_info.features
        if key not in features:
            raise ConfigError(
                f"The TFDS data set {name} has no feature {key!r}; it has {', '.join(features)}."
            )

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        return f"{self.dataset}[{index}]"

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            record = patiently(lambda: self.records[index], self.name(index))
            image = np.asarray(record[self.key])
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{self.name(index)} cannot be read: {error}") from error
        if image.ndim != 3 or image.dtype != np.uint8 or image.shape[-1] not in (1, 3):
            raise InputError(f"{self.name(index)} is no 8-bit RGB picture: {image.shape}.")
        return np.broadcast_to(image, (*image.shape[:2], 3))


class SyntheticSource:
    """`count` made-up pictures of 96 pixels a side, each from its number: smooth colours and noise.

    For trying out a machine: nothing has to be there.
    """

    SIDE = 96

    def __init__(self, count: int):
        if count < 1:
            raise ConfigError(f"{count} made-up pictures are none.")
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"made-up picture {index}"

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(index)
        y, x = np.mgrid[: self.SIDE, : self.SIDE]
        colours = []
        for _ in range(3):
            a, b, phase = rng.uniform((0.02, 0.02, 0), (0.3, 0.3, 6))
            colours.append(np.sin(a * x + phase) + np.cos(b * y - phase))
        noise = rng.normal(0, 6, (self.SIDE, self.SIDE, 3))
        return np.clip(127 + 50 * np.stack(colours, -1) + noise, 0, 255).astype(np.uint8)


class CachedSource:
    """Keeps decoded pictures of another source in memory, up to `capacity` bytes.

    The first that come stay; once full, further pictures are decoded each time. Safe to share
    between threads (two of them may decode the same picture once each).
    """

    def __init__(self, source: Source, capacity: int):
        self.source = source
        self.free = capacity
        self.pictures: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def __getitem__(self, index: int) -> np.ndarray:
        picture = self.pictures.get(index)
        if picture is None:
            picture = self.source[index]
            if picture.nbytes <= self.free:
                self.free -= picture.nbytes
                self.pictures[index] = picture
        return picture
