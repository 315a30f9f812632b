"""`glc evaluate`: rate and quality of a model on a folder of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from glc_jax.cli import coding, messages, process, streams
from glc_jax.errors import ConfigError


def evaluate(options: argparse.Namespace) -> int:
    """`glc evaluate`."""
    from glc_jax import weights

    coding.check_background(options.background)
    path = weights.resolve(options.weights)
    weights.describe(path)
    process.prepare_jax(options.device)
    try:
        from glc_jax import evaluation
        from glc_jax.evaluation import datasets

        dataset = datasets.load(
            options.folder,
            options.dataset,
            options.max_pixels,
            background=options.background,
            leave_out=options.output,
        )
        with messages.bar(dataset.label) as update:
            found = evaluation.run(
                dataset,
                process.load_codec(path, options.max_memory, options.device, options.plugins),
                options.output,
                rates=options.rates,
                metrics=options.metrics,
                max_memory=options.max_memory,
                force=options.force,
                inception=options.inception,
                progress=lambda done, total, name: update(completed=done, total=total),
            )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"glc evaluate needs {error.name}, of the extra `eval`: pip install 'glc-jax[eval]'."
        ) from error
    for row in found["averages"]:
        values = [
            f"{metric['label']} {row[name]:.{metric['decimals']}f}"
            for name, metric in found["metrics"].items()
            if row[name] is not None
        ]
        streams.show(", ".join([f"rate {row['point']}: {row['bpp']:.4f} bpp", *values]))
    for note in found["notes"]:
        messages.complain(note)
    for failure in found["failures"]:
        at = "" if failure["point"] is None else f" (rate {failure['point']})"
        messages.complain(f"{failure['image']}{at}: {failure['reason']}")
    messages.tell(f"Look at {Path(options.output, 'index.html')}")
    return int(bool(found["failures"]))
