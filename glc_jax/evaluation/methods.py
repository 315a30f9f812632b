"""The codecs under test, under one face: GLC, and Pillow's encoders at GLC's file sizes."""

import dataclasses
import functools
import importlib.metadata
import io
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, features

from glc_jax.errors import ConfigError


class Codec(Protocol):
    """What is needed of `glc_jax.Codec`."""

    config: Mapping[str, Any]
    fingerprint: bytes

    def compress(self, image: np.ndarray, rate: float) -> bytes: ...

    def decompress(self, data: bytes) -> np.ndarray: ...

    def estimate(self, image: np.ndarray, rate: float) -> Any: ...


class Compressed(NamedTuple):
    """A file, the settings that made it, and the seconds that making it took.

    at_limit: the encoder cannot make a smaller file of this picture.
    """

    data: bytes
    settings: dict[str, float]
    seconds: float
    at_limit: bool = False


class GLC:
    """A GLC model; a point is a rate.

    id: its name in files and addresses; label: its name for a reader; options: of `compress`;
    fast: as `Codec` has it.
    """

    suffix = ".glc"
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, codec: Codec, method_id: str = "glc", fast: bool = False) -> None:
        self.codec, self.fast = codec, fast
        self.id = method_id
        self.label = f"GLC {codec.config['name']}" + (", fast" if fast else "")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides this method's files and pictures, for results.json."""
        return {
            "weights": self.codec.config["name"],
            "fingerprint": self.codec.fingerprint.hex(),
            "provenance": getattr(self.codec, "provenance", {}),
            **({"fast": True} if self.fast else {}),
        }

    def compress(self, image: np.ndarray, rate: float) -> Compressed:
        """The file of a picture at a rate."""
        start = time.perf_counter()
        data = self.codec.compress(image, rate=rate, fast=self.fast, **self.options)
        return Compressed(data, {"rate": rate}, time.perf_counter() - start)

    def decompress(self, data: bytes) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return self.codec.decompress(data, fast=self.fast)

    def estimated_bits(self, image: np.ndarray, rate: float) -> float | None:
        """The float model's estimate, y and z together, which papers report."""
        estimate = self.codec.estimate(image, rate=rate)
        return float(estimate.bits_y + estimate.bits_z)


class Restored(GLC):
    """A GLC model whose encoder repairs: of its codec, `restorer` and `compress(restore=True)`."""

    options = MappingProxyType({"restore": True})

    def __init__(self, codec: Codec, fast: bool = False) -> None:
        """Raises WeightsError where there is no restorer of the model."""
        super().__init__(codec, "glc-restore", fast)
        self.label += ", restored"
        self.restorer = codec.restorer

    @property
    def identity(self) -> dict[str, Any]:
        """What decides this method's files and pictures, for results.json."""
        found = {"restorer": self.restorer.name, "restorer_sha256": self.restorer.digest}
        return super().identity | found

    def estimated_bits(self, image: np.ndarray, rate: float) -> None:
        """Papers have none of a restored picture, nor has the codec."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """A format of Pillow's with a quality from `lowest` to `highest` (integers)."""

    label: str
    suffix: str
    format: str
    lowest: int
    highest: int
    options: Mapping[str, Any]
    available: Callable[[], bool]
    version: Callable[[], str | None]


def _has_jxl() -> bool:
    try:
        import pillow_jxl  # noqa: F401, registers the format
    except ImportError:
        return False
    return True


ENCODERS = {
    "jpeg": Encoder(
        *("JPEG", ".jpg", "JPEG", 1, 95),
        options={"optimize": True, "progressive": True},
        available=lambda: features.check("jpg"),
        version=lambda: features.version("jpg"),
    ),
    "webp": Encoder(
        *("WebP", ".webp", "WEBP", 0, 100),
        options={"method": 6},
        available=lambda: features.check("webp"),
        version=lambda: features.version("webp"),
    ),
    "avif": Encoder(
        *("AVIF", ".avif", "AVIF", 0, 100),
        options={"speed": 0},  # the slowest, for the smallest files
        available=lambda: features.check("avif"),
        version=lambda: features.version("avif"),
    ),
    "jxl": Encoder(
        *("JPEG XL", ".jxl", "JXL", 0, 99),  # 100 means lossless to the plugin, and fails
        options={"effort": 7},
        available=_has_jxl,
        version=lambda: importlib.metadata.version("pillow-jxl-plugin"),
    ),
}


class Matched:
    """One of Pillow's encoders at the quality whose file is nearest in size to a target."""

    def __init__(self, name: str) -> None:
        """Raises ConfigError for an unknown encoder, or one that is not installed."""
        if name not in ENCODERS:
            raise ConfigError(f"There is no encoder {name!r}; choose from {', '.join(ENCODERS)}.")
        self.encoder = ENCODERS[name]
        if not self.encoder.available():
            raise ConfigError(
                f"{self.encoder.label} cannot be written here: this Pillow lacks it"
                + ("; pip install pillow-jxl-plugin." if name == "jxl" else ".")
            )
        self.id = name
        self.label = self.encoder.label
        self.suffix = self.encoder.suffix

    @property
    def identity(self) -> dict[str, Any]:
        """What decides this method's files and pictures, for results.json."""
        return {
            "encoder": self.id,
            "version": self.encoder.version(),
            "pillow": importlib.metadata.version("pillow"),
            "options": dict(self.encoder.options),
        }

    def compress(self, image: np.ndarray, target_bytes: int) -> Compressed:
        """The file nearest in size to `target_bytes`.

        By bisection: larger quality, larger file. Below the encoder's smallest file that one is
        the nearest. The seconds are those of the one file, without the search.
        """
        at = _qualities(self.encoder, image.tobytes(), image.shape)
        low, high = self.encoder.lowest, self.encoder.highest
        while high - low > 1:
            middle = (low + high) // 2
            if len(at(middle).data) <= target_bytes:
                low = middle
            else:
                high = middle
        return min((at(low), at(high)), key=lambda file: abs(len(file.data) - target_bytes))

    def decompress(self, data: bytes) -> np.ndarray:
        """uint8 [H, W, 3]."""
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))


@functools.lru_cache(maxsize=8)
def _qualities(
    encoder: Encoder, pixels: bytes, shape: tuple[int, ...]
) -> Callable[[int], Compressed]:
    """quality -> file of one picture; kept, since neighbouring rates search the same qualities."""
    picture = Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(shape))

    @functools.cache
    def at(quality: int) -> Compressed:
        buffer = io.BytesIO()
        start = time.perf_counter()
        picture.save(buffer, encoder.format, quality=quality, **encoder.options)
        seconds = time.perf_counter() - start
        at_limit = quality == encoder.lowest
        return Compressed(buffer.getvalue(), {"quality": quality}, seconds, at_limit)

    return at
