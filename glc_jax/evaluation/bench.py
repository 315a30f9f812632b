"""Measuring one picture after another: every input, method and point, what is done already kept."""

import hashlib
import io
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from glc_jax import images
from glc_jax.errors import GLCError, InputError, OutputError
from glc_jax.evaluation import methods, quality, results, store
from glc_jax.evaluation.datasets import Degradation, Picture

_THUMBNAIL = (320, 240)
_INPUT = "input"  # what a degraded picture is kept under, where a codec has its id
_ITEM_VERSION = 1  # part of every record's identity; raised when a record's meaning changes


class Failure(NamedTuple):
    """What could not be measured: `method` and `point` are None for a whole picture."""

    image: str
    method: str | None
    point: str | None
    reason: str
    degradation: str | None = None


class _Input(NamedTuple):
    """What is coded of a picture, uint8 [H, W, 3]: itself, or what a degradation makes of it.

    identity: what decides it, and what it is measured against; files: what the page shows of it.
    """

    name: str
    key: str
    original: np.ndarray
    degradation: str | None
    image: np.ndarray
    identity: Mapping[str, str]
    files: Mapping[str, str]

    def names(self, *names: str) -> tuple[str, ...]:
        """Under which what is made of it is kept."""
        return (*([] if self.degradation is None else [self.degradation]), *names, self.key)


class Bench:
    """Measures one picture after another; `items` and `failures` are what came of it."""

    def __init__(
        self,
        kept: store.Store,
        meter: quality.PairMeter,
        patch_features: quality.PatchFeatures | None,
        inception_sha256: str,
        tested: Sequence[methods.GLC],
        matched: Sequence[methods.Matched],
        degradations: Sequence[Degradation],
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self._store = kept
        self._meter = meter
        self._patch_features = patch_features
        self._inception = inception_sha256
        self._tested = tested
        self._matched = matched
        self._degradations = degradations
        self._compiled: set[tuple[str, tuple[int, ...]]] = set()
        self._features: dict[tuple[str, ...], str] = {}  # whose are kept -> their identity
        self._rows: dict[results.Row, list[tuple[str, ...]]] = {}  # and which of them
        self._measured: dict[tuple[str, bytes], dict[str, float | None]] = {}  # of this picture

    def measure(
        self, picture: Picture, rates: Mapping[str, float], progress: Callable[[int], Any]
    ) -> None:
        """All inputs, methods and points of one picture; `progress` hears how many are done."""
        inputs = max(len(self._degradations), 1)
        steps = len(rates) * (len(self._tested) + len(self._matched))
        try:
            original = picture.load()
        except GLCError as error:
            self.failures.append(Failure(picture.name, None, None, str(error)))
            progress(inputs * steps)
            return
        self._measured.clear()
        whole = self._whole(picture, original)
        if not self._degradations:
            self._measure(whole, rates, progress)
        for i, degradation in enumerate(self._degradations):
            try:
                spoilt = self._degraded(whole, degradation)
            except OutputError:
                raise
            except GLCError as error:
                failure = Failure(picture.name, None, None, str(error), degradation.name)
                self.failures.append(failure)
                progress((i + 1) * steps)
            else:
                self._measure(spoilt, rates, lambda done, i=i: progress(i * steps + done))

    def _measure(
        self, given: _Input, rates: Mapping[str, float], progress: Callable[[int], Any]
    ) -> None:
        """All methods and points of one input."""
        done, sizes = 0, {}
        for method in (*self._tested, *self._matched):
            for point, rate in rates.items():
                try:
                    if method in self._matched and point not in sizes:
                        raise InputError(f"There is no {self._tested[0].label} file to match.")
                    argument = sizes[point] if method in self._matched else rate
                    item = self._item(given, method, point, argument)
                    self._keep_item(given, item)
                    if method is self._tested[0]:
                        sizes[point] = item["bytes"]
                except OutputError:
                    raise  # the report's folder, which would fail for every picture
                except GLCError as error:
                    reason = str(error)
                    failure = Failure(given.name, method.id, point, reason, given.degradation)
                    self.failures.append(failure)
                done += 1
                progress(done)

    def _keep_item(self, given: _Input, record: Mapping[str, Any]) -> None:
        self.items.append({**record, "degradation": given.degradation})

    def _whole(self, picture: Picture, original: np.ndarray) -> _Input:
        """A picture as it is; writes what the page shows of it."""
        names = ("original", picture.key)
        files = {
            "original": f"images/original/{picture.key}.png",
            "thumbnail": f"images/thumbnail/{picture.key}.webp",
        }
        identity = {"picture": _digest(original)}
        wanted = store.identity(version=_ITEM_VERSION, **identity)
        if self._store.record(*names, wanted=wanted) is None:
            self._write(files["original"], _png(original))
            self._write(files["thumbnail"], _thumbnail(original))
            self._store.save_record(*names, record={"identity": wanted, "files": files})
        self._keep_features(lambda: original, wanted, None, *names)
        return _Input(picture.name, picture.key, original, None, original, identity, files)

    def _degraded(self, whole: _Input, degradation: Degradation) -> _Input:
        """A picture spoiled, which is measured too, before it is coded."""
        image = degradation(whole.original)
        identity = {**whole.identity, "degradation": degradation.name, "input": _digest(image)}
        given = whole._replace(degradation=degradation.name, image=image, identity=identity)
        names = given.names(_INPUT)
        files = {"input": f"images/{'/'.join(names)}.png", **whole.files}
        given = given._replace(files=files)
        wanted = store.identity(version=_ITEM_VERSION, **identity, metrics=self._meter.names)
        record = self._store.record(*names, wanted=wanted)
        if record is None:
            self._write(files["input"], _png(image))
            values = self._meter.measure(whole.original, image)
            record = {
                "identity": wanted,
                **_facts(given, None, None),
                **dict.fromkeys(quality.PAIR_METRICS),
                **values,
                "warm": True,
                "files": files,
            }
            self._store.save_record(*names, record=record)
        self._keep_features(lambda: image, wanted, (given.degradation, None, None), *names)
        self._keep_item(given, record)
        return given

    def _item(
        self, given: _Input, method: methods.GLC | methods.Matched, point: str, argument: float
    ) -> dict[str, Any]:
        names = given.names(method.id, point)
        row = given.degradation, method.id, point
        wanted = store.identity(
            version=_ITEM_VERSION,
            **given.identity,
            method=method.identity,
            argument=argument,
            metrics=self._meter.names,
        )
        record = self._store.record(*names, wanted=wanted)
        if record is not None:
            path = self._store.output / record["files"]["reconstruction"]
            self._keep_features(lambda: images.read(path, max_pixels=None), wanted, row, *names)
            return record
        height, width, _ = given.image.shape
        files = {
            "file": f"files/{'/'.join(names)}{method.suffix}",
            "reconstruction": f"images/{'/'.join(names)}.png",
            **given.files,
        }
        shape = method.id, given.image.shape
        warm = isinstance(method, methods.Matched) or shape in self._compiled
        made = method.compress(given.image, argument)
        path = self._write(files["file"], made.data)
        data = path.read_bytes()
        start = time.perf_counter()
        reconstruction = method.decompress(data)
        decode_seconds = time.perf_counter() - start
        self._compiled.add(shape)
        if reconstruction.shape != given.image.shape:
            raise InputError(
                f"{method.label} gave a picture of {reconstruction.shape}, not {given.image.shape}."
            )
        bits = None
        if isinstance(method, methods.GLC):
            bits = method.estimated_bits(given.image, argument)
        self._write(files["reconstruction"], _png(reconstruction))
        record = {
            "identity": wanted,
            **_facts(given, method.id, point),
            "settings": made.settings,
            "at_limit": made.at_limit,
            "bytes": len(data),
            "bpp": 8 * len(data) / (width * height),
            "bpp_estimated": None if bits is None else bits / (width * height),
            **dict.fromkeys(quality.PAIR_METRICS),
            **self._pair_values(method.id, data, given.original, reconstruction),
            "encode_seconds": made.seconds,
            "decode_seconds": decode_seconds,
            "warm": warm,
            "files": files,
        }
        self._keep_features(lambda: reconstruction, wanted, row, *names)
        self._store.save_record(*names, record=record)
        return record

    def _pair_values(
        self, method: str, data: bytes, original: np.ndarray, reconstruction: np.ndarray
    ) -> dict[str, float | None]:
        """The metrics of pairs; an encoder's smallest file, which stands at many points, once."""
        names = (method, data)
        if names not in self._measured:
            self._measured[names] = self._meter.measure(original, reconstruction)
        return self._measured[names]

    def _keep_features(
        self,
        image: Callable[[], np.ndarray],
        wanted: str,
        row: results.Row | None,
        *names: str,
    ) -> None:
        """Makes sure that the features of a picture are kept; `wanted` is its identity.

        row: that of the averages which it belongs to; None for an original.
        """
        if self._patch_features is None:
            return
        size = self._patch_features.patch_size
        identity = store.identity(image=wanted, size=size, inception=self._inception)
        if self._store.features(*names, wanted=identity) is None:
            found = self._patch_features.of(image())
            self._store.save_features(*names, identity=identity, features=found)
        self._features[names] = identity
        if row is not None:
            self._rows.setdefault(row, []).append(names)

    def distances(self) -> dict[results.Row, dict[str, Any]]:
        """FID and KID of each row, against the originals of the same pictures."""
        originals: dict[tuple[str, ...], quality.FeatureSet] = {}  # most rows share theirs
        distances = {}
        for row, found in self._rows.items():
            keys = tuple(names[-1] for names in found)
            if keys not in originals:
                originals[keys] = quality.FeatureSet(self._reader("original", k) for k in keys)
            shown = quality.FeatureSet(self._reader(*names) for names in found)
            distances[row] = vars(quality.set_distances(originals[keys], shown))
        return distances

    def _reader(self, *names: str) -> Callable[[], np.ndarray]:
        return lambda: self._store.features(*names, wanted=self._features[names])

    def _write(self, name: str, data: bytes) -> pathlib.Path:
        path = self._store.output / name
        store.write(path, data)
        return path


def _facts(given: _Input, method: str | None, point: str | None) -> dict[str, Any]:
    """What an item begins with; of an input that is not coded, the rest is empty."""
    height, width, _ = given.image.shape
    return {
        "image": given.name,
        "width": width,
        "height": height,
        "method": method,
        "point": point,
        "settings": {},
        "at_limit": False,
        **dict.fromkeys(("bytes", "bpp", "bpp_estimated", "encode_seconds", "decode_seconds")),
    }


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _thumbnail(image: np.ndarray) -> bytes:
    small = Image.fromarray(image)
    small.thumbnail(_THUMBNAIL, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()
