"""Measuring every picture, method and point, and writing the report."""

import datetime
import hashlib
import io
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from glc_jax import images
from glc_jax.errors import ConfigError, GLCError, InputError, OutputError
from glc_jax.evaluation import curves, methods, page, published, quality, results, store
from glc_jax.evaluation.datasets import Dataset, Picture
from glc_jax.metrics import inception_weights, kid

DEFAULT_RATES = (0.0, 1.0, 2.0, 3.0)
_THUMBNAIL = (320, 240)
_ITEM_VERSION = 1  # part of every record's identity; raised when a record's meaning changes

Progress = Callable[[int, int, str], None]
"""Called with (finished, of how many, what was finished) after each picture and point."""


class Failure(NamedTuple):
    """What could not be measured: `method` and `point` are None for a whole picture."""

    image: str
    method: str | None
    point: str | None
    reason: str


def run(
    dataset: Dataset,
    codec: methods.Codec,
    output: str | os.PathLike,
    *,
    rates: Sequence[float] = DEFAULT_RATES,
    against: Sequence[str] = (),
    other_codecs: Sequence[methods.Codec] = (),
    metrics: Iterable[str] = quality.DEFAULT_PAIR_METRICS,
    inception: str | os.PathLike | None = None,
    inception_sha256: str = inception_weights.SHA256,
    patch_size: int | None = None,
    max_memory: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure `codec` on `dataset` and write the report to the folder `output`.

    Args:
      dataset: from `datasets.load`.
      codec: a `glc_jax.Codec`.
      output: made where it does not exist. What an interrupted or earlier run has finished there
        is not done again.
      rates: the rate points.
      against: names in `methods.ENCODERS`, each run at the quality whose file is nearest to
        that of `codec`, picture by picture and rate by rate.
      other_codecs: further `glc_jax.Codec`s, at the same rates.
      metrics: of pairs, from `quality.PAIR_METRICS`.
      inception: path or address of FID's Inception weights; without it FID and KID are not
        computed.
      inception_sha256: that file's SHA-256.
      patch_size: of FID and KID, in pixels; by default the data set's.
      max_memory: bytes that a metric may take; by default what the machine has free.
      force: write into a folder that holds other things under a report's names.
      progress: told about each finished step.

    Returns:
      What results.json holds (docs/evaluation.md). Pictures that fail are in "failures", and the
      others are measured all the same.

    Raises:
      ConfigError: an unknown metric or encoder, no rate, or the same rate twice.
      WeightsError: Inception's weights cannot be read.
      OutputError: the report cannot be written, or nothing could be measured; the folder holds
        something else.
    """
    output = pathlib.Path(output)
    if not force:
        store.refuse_foreign(output)
    started = time.perf_counter()
    points = [f"{rate:g}" for rate in rates]
    if not points or len(set(points)) < len(points):
        raise ConfigError(f"The rates must be one or more different numbers, not {list(rates)}.")
    tested = [methods.GLC(codec)]
    tested += [methods.GLC(each, f"glc-{i}") for i, each in enumerate(other_codecs, 2)]
    matched = [methods.Matched(name) for name in dict.fromkeys(against)]
    size = patch_size or dataset.patch_size
    meter = quality.PairMeter(metrics, max_memory)
    notes = list(meter.notes)
    if inception is None:
        patch_features = None
        notes.append(
            "FID and KID were not computed: they need Inception's weights, which this package "
            "cannot carry (--inception)."
        )
    else:
        weights = inception_weights.load(inception, inception_sha256)
        patch_features = quality.PatchFeatures(weights, size)

    everything = [*tested, *matched]
    bench = _Bench(store.Store(output), meter, patch_features, inception_sha256, tested, matched)
    total = len(dataset.pictures) * len(points) * len(everything)
    for done, picture in enumerate(dataset.pictures):
        before = done * len(points) * len(everything)
        bench.measure(
            picture,
            dict(zip(points, rates, strict=True)),
            lambda steps, name=picture.name, before=before: (
                progress and progress(before + steps, total, name)
            ),
        )
    items, failures = bench.items, bench.failures
    if not items:
        raise OutputError(
            f"None of the {len(dataset.pictures)} pictures could be measured; the first: "
            f"{failures[0].image}: {failures[0].reason}"
        )
    items.sort(key=lambda item: [m.id for m in everything].index(item["method"]))
    distances = bench.distances()
    rows = results.averages(items, distances)
    notes += _caveats(everything, items, rows, meter.names, patch_features is not None)
    published_name = dataset.protocol.published if dataset.protocol else None
    found = {
        "schema": results.SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "dataset": {
            "label": dataset.label,
            "name": dataset.protocol.name if dataset.protocol else None,
            "pictures": len(dataset.pictures),
            "patch_size": size,
            "published": published_name and published.SOURCE,
        },
        "methods": [
            {
                "id": method.id,
                "label": method.label,
                "matches": tested[0].id if method in matched else None,
                **method.identity,
            }
            for method in everything
        ],
        "points": points,
        "metrics": {
            name: {
                "label": metric.label,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "decimals": metric.decimals,
            }
            for name, metric in quality.METRICS.items()
            if any(row[name] is not None for row in rows)
        },
        "averages": rows,
        "bd_rates": results.bd_rates(rows, published_name, tested[0].id),
        "items": [{k: v for k, v in item.items() if k != "identity"} for item in items],
        "failures": [failure._asdict() for failure in failures],
        "notes": notes,
        "versions": results.versions(),
        "machine": results.machine(),
        "seconds": time.perf_counter() - started,
    }
    _write_report(output, found, published_name)
    return found


class _Bench:
    """Measures one picture after another; `items` and `failures` are what came of it."""

    def __init__(
        self,
        kept: store.Store,
        meter: quality.PairMeter,
        patch_features: quality.PatchFeatures | None,
        inception_sha256: str,
        tested: Sequence[methods.GLC],
        matched: Sequence[methods.Matched],
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self._store = kept
        self._meter = meter
        self._patch_features = patch_features
        self._inception = inception_sha256
        self._tested = tested
        self._matched = matched
        self._compiled: set[tuple[str, tuple[int, ...]]] = set()
        self._features: dict[tuple[str, ...], str] = {}  # whose are kept -> their identity
        self._measured: dict[tuple[str, bytes], dict[str, float | None]] = {}  # of this picture

    def measure(
        self, picture: Picture, rates: Mapping[str, float], progress: Callable[[int], Any]
    ) -> None:
        """All methods and points of one picture; `progress` hears how many are done."""
        steps = len(rates) * (len(self._tested) + len(self._matched))
        try:
            original = picture.load()
        except GLCError as error:
            self.failures.append(Failure(picture.name, None, None, str(error)))
            progress(steps)
            return
        digest = hashlib.sha256(repr(original.shape).encode() + original.tobytes()).hexdigest()
        shown = self._keep_original(picture, original, digest)
        done, sizes = 0, {}
        self._measured.clear()
        for method in (*self._tested, *self._matched):
            for point, rate in rates.items():
                try:
                    if method in self._matched and point not in sizes:
                        raise InputError(f"There is no {self._tested[0].label} file to match.")
                    argument = sizes[point] if method in self._matched else rate
                    item = self._item(picture, original, digest, shown, method, point, argument)
                    self.items.append(item)
                    if method is self._tested[0]:
                        sizes[point] = item["bytes"]
                except OutputError:
                    raise  # the report's folder, which would fail for every picture
                except GLCError as error:
                    self.failures.append(Failure(picture.name, method.id, point, str(error)))
                done += 1
                progress(done)

    def _keep_original(self, picture: Picture, original: np.ndarray, digest: str) -> dict[str, str]:
        """Writes what the page shows of a picture itself; name -> path in the report."""
        names = ("original", picture.key)
        files = {
            "original": f"images/original/{picture.key}.png",
            "thumbnail": f"images/thumbnail/{picture.key}.webp",
        }
        wanted = store.identity(version=_ITEM_VERSION, picture=digest)
        if self._store.record(*names, wanted=wanted) is None:
            self._write(files["original"], _png(original))
            self._write(files["thumbnail"], _thumbnail(original))
            self._store.save_record(*names, record={"identity": wanted, "files": files})
        self._keep_features(lambda: original, wanted, *names)
        return files

    def _item(
        self,
        picture: Picture,
        original: np.ndarray,
        digest: str,
        shown: Mapping[str, str],
        method: methods.GLC | methods.Matched,
        point: str,
        argument: float,
    ) -> dict[str, Any]:
        names = (method.id, point, picture.key)
        wanted = store.identity(
            version=_ITEM_VERSION,
            picture=digest,
            method=method.identity,
            argument=argument,
            metrics=self._meter.names,
        )
        record = self._store.record(*names, wanted=wanted)
        if record is not None:
            path = self._store.output / record["files"]["reconstruction"]
            self._keep_features(lambda: images.read(path, max_pixels=None), wanted, *names)
            return record
        height, width, _ = original.shape
        files = {
            "file": f"files/{method.id}/{point}/{picture.key}{method.suffix}",
            "reconstruction": f"images/{method.id}/{point}/{picture.key}.png",
            **shown,
        }
        shape = method.id, original.shape
        warm = isinstance(method, methods.Matched) or shape in self._compiled
        made = method.compress(original, argument)
        path = self._write(files["file"], made.data)
        data = path.read_bytes()
        start = time.perf_counter()
        reconstruction = method.decompress(data)
        decode_seconds = time.perf_counter() - start
        self._compiled.add(shape)
        if reconstruction.shape != original.shape:
            raise InputError(
                f"{method.label} gave a picture of {reconstruction.shape}, not {original.shape}."
            )
        estimated = None
        if isinstance(method, methods.GLC):
            estimated = method.estimated_bits(original, argument) / (width * height)
        self._write(files["reconstruction"], _png(reconstruction))
        record = {
            "identity": wanted,
            "image": picture.name,
            "width": width,
            "height": height,
            "method": method.id,
            "point": point,
            "settings": made.settings,
            "at_limit": made.at_limit,
            "bytes": len(data),
            "bpp": 8 * len(data) / (width * height),
            "bpp_estimated": estimated,
            **dict.fromkeys(quality.PAIR_METRICS),
            **self._pair_values(method.id, data, original, reconstruction),
            "encode_seconds": made.seconds,
            "decode_seconds": decode_seconds,
            "warm": warm,
            "files": files,
        }
        self._keep_features(lambda: reconstruction, wanted, *names)
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

    def _keep_features(self, image: Callable[[], np.ndarray], wanted: str, *names: str) -> None:
        """Makes sure that the features of a picture are kept; `wanted` is its identity."""
        if self._patch_features is None:
            return
        size = self._patch_features.patch_size
        identity = store.identity(image=wanted, size=size, inception=self._inception)
        if self._store.features(*names, wanted=identity) is None:
            found = self._patch_features.of(image())
            self._store.save_features(*names, identity=identity, features=found)
        self._features[names] = identity

    def distances(self) -> dict[tuple[str, str], dict[str, Any]]:
        """FID and KID of each method and point, against the originals of the same pictures."""
        keys: dict[tuple[str, str], list[str]] = {}
        for names in self._features:
            if len(names) == 3:
                method, point, key = names
                keys.setdefault((method, point), []).append(key)
        originals: dict[tuple[str, ...], quality.FeatureSet] = {}  # most points share theirs
        distances = {}
        for names, found in keys.items():
            which = tuple(found)
            if which not in originals:
                originals[which] = quality.FeatureSet(self._reader("original", k) for k in found)
            shown = quality.FeatureSet(self._reader(*names, key) for key in found)
            distances[names] = vars(quality.set_distances(originals[which], shown))
        return distances

    def _reader(self, *names: str) -> Callable[[], np.ndarray]:
        return lambda: self._store.features(*names, wanted=self._features[names])

    def _write(self, name: str, data: bytes) -> pathlib.Path:
        path = self._store.output / name
        store.write(path, data)
        return path


def _caveats(
    everything: Sequence[methods.GLC | methods.Matched],
    items: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    measured: Sequence[str],
    has_inception: bool,
) -> list[str]:
    """A sentence for each thing that a reader of the numbers should know."""
    notes = []
    sizes = {(i["image"], i["point"]): i["bytes"] for i in items if i["method"] == everything[0].id}
    for method in everything:
        own = [item for item in items if item["method"] == method.id]
        large = [
            item
            for item in own
            if item["at_limit"] and item["bytes"] > sizes[item["image"], item["point"]]
        ]
        if large:
            notes.append(
                f"{method.label} cannot make files as small as {everything[0].label}'s for "
                f"{len(large)} of {len(own)}; its smallest, which are larger, stand there."
            )
    for name in measured:
        missing = {item["image"] for item in items if item[name] is None}
        if missing:
            notes.append(
                f"{quality.METRICS[name].label} has no value for some files of {len(missing)} "
                "pictures: they are too small for it, or equal to their originals."
            )
    if has_inception:
        fewest = min(row["patches"] for row in rows)
        if fewest < kid.SUBSET_SIZE:
            notes.append(
                f"KID was not computed: it draws subsets of {kid.SUBSET_SIZE} patches, and there "
                f"are {fewest}."
            )
        if fewest < quality.inception.FEATURES:
            notes.append(
                f"FID was computed from {fewest} patches, fewer than its "
                f"{quality.inception.FEATURES} features; compare it only with values from the same "
                "pictures."
            )
    return notes


def _write_report(output: pathlib.Path, found: Mapping[str, Any], dataset: str | None) -> None:
    labels = {method["id"]: method["label"] for method in found["methods"]}
    plots = {}
    for metric in found["metrics"]:
        png = curves.plot(metric, found["averages"], labels, found["dataset"]["label"], dataset)
        if png is not None:
            plots[metric] = f"rd_{metric}.png"
            store.write(output / plots[metric], png)
    store.write(output / "items.csv", results.to_csv(found["items"]))
    store.write(output / "results.json", results.to_json(found))
    store.write(output / "index.html", page.render(found, plots))


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
