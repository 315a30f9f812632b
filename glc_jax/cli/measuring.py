"""`glc evaluate`: rate and quality of a model, and of other codecs, on a folder of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glc_jax.cli import coding, messages, pictures, process, streams
from glc_jax.cli.jobs import UsageError
from glc_jax.errors import ConfigError, WeightsError


def evaluate(options: argparse.Namespace) -> int:
    """`glc evaluate`."""
    from glc_jax import companions, weights

    if Path(options.output).exists() and not Path(options.output).is_dir():
        raise UsageError(f"{options.output}: is a file; the report needs a folder.")
    pictures.check_background(options.background)
    if options.restorer is not None and not options.restore:
        raise UsageError("--restorer: says what --restore is to use; give --restore as well.")
    path = weights.resolve(options.weights)
    model = companions.describe_model(path)
    coding.check_rates("--rates", options.rates, model)
    named = {}
    if options.restore:
        named["restorer"] = companions.find(companions.RESTORER, model, options.restorer).path
    process.prepare_jax(options.device)
    try:
        found = _measured(options, path, named)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"glc evaluate needs {error.name}, of the extra `eval`: pip install 'glc-jax[eval]'."
        ) from error
    streams.show(_table(found))
    for note in found["notes"]:
        messages.complain(note)
    for failure in found["failures"]:
        where = f" ({failure['method']}, rate {failure['point']})" if failure["method"] else ""
        spoilt = f", {failure['degradation']}" if failure["degradation"] else ""
        messages.complain(f"{failure['image']}{spoilt}{where}: {failure['reason']}")
    messages.tell(f"Look at {Path(options.output, 'index.html')}")
    return int(bool(found["failures"]))


def _measured(options: argparse.Namespace, path: Path, named: Mapping[str, Path]) -> dict[str, Any]:
    """What the report holds; it is written. named: companions of the model."""
    from glc_jax import companions, evaluation, weights
    from glc_jax.data import degrade
    from glc_jax.evaluation import datasets, methods
    from glc_jax.metrics import inception_weights

    try:
        degradations = [degrade.parse(name) for name in dict.fromkeys(options.degrade)]
    except ConfigError as error:
        raise UsageError(f"--degrade: {error}") from error
    others = [name for name in options.against if name not in methods.ENCODERS]
    try:
        paths = [weights.resolve(name) for name in others]
    except WeightsError as error:
        known = ", ".join(methods.ENCODERS)
        raise UsageError(f"--against takes {known} and weights. {error}") from error
    for other in paths:
        coding.check_rates("--against", options.rates, companions.describe_model(other))
    dataset = datasets.load(
        options.folder,
        options.dataset,
        options.max_pixels,
        background=options.background,
        leave_out=options.output,
    )

    with messages.bar(dataset.label) as update:
        return evaluation.run(
            dataset,
            process.load_for(options, path, **named),
            options.output,
            rates=options.rates,
            against=[name for name in options.against if name in methods.ENCODERS],
            other_codecs=[process.load_for(options, other) for other in paths],
            degradations=degradations,
            restore=options.restore,
            fast=options.fast,
            metrics=options.metrics,
            inception=options.inception,
            inception_sha256=options.inception_sha256 or inception_weights.SHA256,
            patch_size=options.patch_size,
            max_memory=options.max_memory,
            force=options.force,
            progress=lambda done, total, name: update(completed=done, total=total),
        )


def _table(found: Mapping[str, Any]) -> str:
    """The averages, a line a codec and rate, of degraded pictures also a degradation."""
    labels = {method["id"]: method["label"] for method in found["methods"]}
    columns = [("bpp", "bpp", 4), ("estimated", "bpp_estimated", 4)]
    columns += [
        (about["label"], name, about["decimals"]) for name, about in found["metrics"].items()
    ]
    lines = [["input", "codec", "rate", *(label for label, _, _ in columns)]]
    for row in [*found["averages"], *({"degradation": "mean", **row} for row in found["means"])]:
        coded = (labels[row["method"]], row["point"]) if row["method"] else ("not coded", "-")
        values = (
            "-" if row[name] is None else f"{row[name]:.{decimals}f}"
            for _, name, decimals in columns
        )
        lines.append([row["degradation"] or "", *coded, *values])
    if not found["degradations"]:
        lines = [line[1:] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
