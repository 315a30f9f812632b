"""From finished items to averages, BD-rates and the files results.json and items.csv.

docs/evaluation.md describes the schema.
"""

import collections
import csv
import importlib.metadata
import io
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from glc_jax.evaluation import published
from glc_jax.evaluation.quality import METRICS, PAIR_METRICS, SET_METRICS
from glc_jax.metrics.bd_rate import bd_rate

SCHEMA = "glc_jax.evaluation/2"
_VERSIONED = ("glc-jax", "jax", "jaxlib", "flax", "numpy", "pillow")
_ITEM_COLUMNS = (
    *("image", "width", "height", "degradation", "method", "point", "settings"),
    *("bytes", "bpp", "bpp_estimated", *PAIR_METRICS),
    *("encode_seconds", "decode_seconds", "warm"),
)


Row = tuple[str | None, str | None, str | None]
"""Which row of the averages: degradation, method and point."""


def row_of(item: Mapping[str, Any]) -> Row:
    """That of an item."""
    return item["degradation"], item["method"], item["point"]


def averages(
    items: Iterable[Mapping[str, Any]], distances: Mapping[Row, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each degradation, method and point, in the order of the items.

    Means over the pictures; a metric's mean is over the pictures that have it. Seconds are over
    the pictures that needed no compilation, where there are such. `distances` holds FID and KID.
    """
    groups: dict[Row, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for item in items:
        groups[row_of(item)].append(item)
    rows = []
    for (degradation, method, point), group in groups.items():
        warm = [item for item in group if item["warm"]] or group
        row = {
            "degradation": degradation,
            "method": method,
            "point": point,
            "images": len(group),
            "bytes": _mean(group, "bytes"),
            "bpp": _mean(group, "bpp"),
            "bpp_estimated": _mean(group, "bpp_estimated"),
        }
        row |= {name: _mean(group, name) for name in PAIR_METRICS}
        row |= {name: None for name in SET_METRICS} | {"kid_std": None, "patches": None}
        row |= distances.get((degradation, method, point), {})
        row |= {name: _mean(warm, name) for name in ("encode_seconds", "decode_seconds")}
        rows.append(row)
    return rows


def means(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The means of averages over the degradations, of each method and point."""
    groups: dict[tuple[str | None, str | None], list[Mapping[str, Any]]]
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["method"], row["point"]].append(row)
    names = ("bytes", "bpp", "bpp_estimated", *METRICS, "encode_seconds", "decode_seconds")
    return [
        {
            "method": method,
            "point": point,
            "images": sum(row["images"] for row in group),
            **{name: _mean(group, name) for name in names},
        }
        for (method, point), group in groups.items()
    ]


def _mean(items: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [item[name] for item in items if item.get(name) is not None]
    return math.fsum(values) / len(values) if values else None


def bd_rates(
    rows: Sequence[Mapping[str, Any]], dataset: str | None, tested: str
) -> list[dict[str, Any]]:
    """BD-rate of the method `tested` against each other method and, for a known data set, each
    published curve; with real bpp on our side. Only those that are defined."""
    found = []
    by_method: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        by_method[row["method"]].append(row)
    anchors = [
        (method, name, [(row["bpp"], row[name]) for row in group])
        for method, group in by_method.items()
        if method != tested
        for name in METRICS
    ]
    names = {metric.published: name for name, metric in METRICS.items() if metric.published}
    anchors += [
        (
            f"published {curve.method}",
            names[curve.metric],
            list(zip(curve.bpp, curve.value, strict=True)),
        )
        for curve in (published.curves(dataset) if dataset else [])
    ]
    for anchor, name, points in anchors:
        ours = [(row["bpp"], row[name]) for row in by_method[tested]]
        if any(value is None for _, value in (*points, *ours)):
            continue
        result = bd_rate(
            *zip(*points, strict=True), *zip(*ours, strict=True), METRICS[name].higher_is_better
        )
        if result is not None:
            found.append(
                {
                    "method": tested,
                    "anchor": anchor,
                    "metric": name,
                    "percent": result.percent,
                    "overlap": result.overlap,
                }
            )
    return found


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _VERSIONED}


def machine() -> dict[str, Any]:
    """What the times were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def to_json(results: Mapping[str, Any]) -> bytes:
    """results.json's content; there is no NaN and no infinity in it."""
    return (json.dumps(results, indent=1, allow_nan=False) + "\n").encode()


def to_csv(items: Iterable[Mapping[str, Any]]) -> bytes:
    """items.csv's content: a row for each picture, method and point; empty where not computed."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _ITEM_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for item in items:
        settings = " ".join(f"{name}={value:g}" for name, value in item["settings"].items())
        writer.writerow({**item, "settings": settings})
    return text.getvalue().encode()
