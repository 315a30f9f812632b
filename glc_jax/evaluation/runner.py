"""`run`: a whole evaluation, from its settings to the report."""

import datetime
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from glc_jax.errors import ConfigError, OutputError
from glc_jax.evaluation import curves, methods, page, published, quality, results, store
from glc_jax.evaluation.bench import Bench
from glc_jax.evaluation.datasets import Dataset, Degradation
from glc_jax.metrics import inception_weights, kid

DEFAULT_RATES = (0.0, 1.0, 2.0, 3.0)

Progress = Callable[[int, int, str], None]
"""Called with (finished, of how many, what was finished) after each picture and point."""


def run(
    dataset: Dataset,
    codec: methods.Codec,
    output: str | os.PathLike,
    *,
    rates: Sequence[float] = DEFAULT_RATES,
    against: Sequence[str] = (),
    other_codecs: Sequence[methods.Codec] = (),
    degradations: Sequence[Degradation] = (),
    restore: bool = False,
    fast: bool = False,
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
      degradations: of `glc_jax.data.degrade`; every picture is coded with each of them instead of
        as it is, and measured against the picture as it is.
      restore: measure `codec` once more, with its restorer (`compress(restore=True)`).
      fast: measure the codecs in their fast mode (see `glc_jax.Codec`).
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
      ConfigError: an unknown metric or encoder, no rate, or a rate or degradation twice.
      WeightsError: Inception's weights cannot be read, or `codec` has no restorer.
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
    spoilt = [degradation.name for degradation in degradations]
    if len(set(spoilt)) < len(spoilt):
        raise ConfigError(f"The degradations must be different ones, not {spoilt}.")
    tested = [methods.GLC(codec, fast=fast)]
    tested += [methods.Restored(codec, fast)] if restore else []
    tested += [methods.GLC(each, f"glc-{i}", fast) for i, each in enumerate(other_codecs, 2)]
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
    bench = Bench(
        store.Store(output), meter, patch_features, inception_sha256, tested, matched, degradations
    )
    steps = len(points) * len(everything) * max(len(degradations), 1)
    total = len(dataset.pictures) * steps
    for done, picture in enumerate(dataset.pictures):
        bench.measure(
            picture,
            dict(zip(points, rates, strict=True)),
            lambda made, name=picture.name, before=done * steps: (
                progress and progress(before + made, total, name)
            ),
        )
    items, failures = bench.items, bench.failures
    if not any(item["method"] for item in items):
        raise OutputError(
            f"None of the {len(dataset.pictures)} pictures could be measured; the first: "
            f"{failures[0].image}: {failures[0].reason}"
        )
    orders = [None, *spoilt], [None, *(method.id for method in everything)]
    items.sort(key=lambda i: [orders[0].index(i["degradation"]), orders[1].index(i["method"])])
    distances = bench.distances()
    rows = results.averages(items, distances)
    means = results.means(rows) if len(spoilt) > 1 else []
    summary = [row for row in (means or rows) if row["method"] is not None]
    notes += _caveats(everything, items, rows, meter.names, patch_features is not None)
    published_name = dataset.protocol.published if dataset.protocol and not spoilt else None
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
        "degradations": spoilt,
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
        "means": means,
        "bd_rates": results.bd_rates(summary, published_name, tested[0].id),
        "items": [{k: v for k, v in item.items() if k != "identity"} for item in items],
        "failures": [failure._asdict() for failure in failures],
        "notes": notes,
        "versions": results.versions(),
        "machine": results.machine(),
        "seconds": time.perf_counter() - started,
    }
    _write_report(output, found, summary, published_name)
    return found


def _caveats(
    everything: Sequence[methods.GLC | methods.Matched],
    items: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    measured: Sequence[str],
    has_inception: bool,
) -> list[str]:
    """A sentence for each thing that a reader of the numbers should know."""
    notes = []
    first = [item for item in items if item["method"] == everything[0].id]
    sizes = {(i["degradation"], i["image"], i["point"]): i["bytes"] for i in first}
    for method in everything:
        own = [item for item in items if item["method"] == method.id]
        large = [
            item
            for item in own
            if item["at_limit"]
            and item["bytes"] > sizes[item["degradation"], item["image"], item["point"]]
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


def _write_report(
    output: pathlib.Path,
    found: Mapping[str, Any],
    summary: Sequence[Mapping[str, Any]],
    dataset: str | None,
) -> None:
    labels = {method["id"]: method["label"] for method in found["methods"]}
    title, spoilt = found["dataset"]["label"], ", ".join(found["degradations"])
    if spoilt:
        title += f", {'mean of ' if found['means'] else ''}{spoilt}"
    plots = {}
    for metric in found["metrics"]:
        png = curves.plot(metric, summary, labels, title, dataset)
        if png is not None:
            plots[metric] = f"rd_{metric}.png"
            store.write(output / plots[metric], png)
    store.write(output / "items.csv", results.to_csv(found["items"]))
    store.write(output / "results.json", results.to_json(found))
    store.write(output / "index.html", page.render(found, plots))
