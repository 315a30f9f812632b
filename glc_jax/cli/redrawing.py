"""`glc restore` and `glc stylise`: pictures to pictures, through the codec in memory."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glc_jax import images
from glc_jax.cli import coding, jobs, line, pictures, process, styles
from glc_jax.cli.jobs import Job

if TYPE_CHECKING:
    import numpy as np

    from glc_jax.codec import Codec


def restore(options: argparse.Namespace) -> int:
    """`glc restore`."""
    from glc_jax import companions

    def draw(codec: Codec, image: np.ndarray, rate: float) -> np.ndarray:
        return codec.restore(image, rate, fast=options.fast)

    _check(options)
    path, found = _model(options, companions.RESTORER, options.restorer)
    return _redraw(options, path, draw, mark="-restored", kept=[found], restorer=found)


def stylise(options: argparse.Namespace) -> int:
    """`glc stylise`."""
    from glc_jax import companions

    _check(options)
    styles.check_options(options)
    path, found = _model(options, companions.STYLIST, options.stylist)
    style = styles.read(options)

    def draw(codec: Codec, image: np.ndarray, rate: float) -> np.ndarray:
        return codec.stylise(image, style, strength=options.style_strength, rate=rate)

    kept = [found, options.style]
    return _redraw(options, path, draw, mark="-stylised", kept=kept, stylist=found)


def _check(options: argparse.Namespace) -> None:
    pictures.check_background(options.background)
    jobs.check_habit(options.inputs, options.output, made=None)


def _model(options: argparse.Namespace, kind: str, companion: str | None) -> tuple[Path, Path]:
    """The weights to use and their companion; what is wrong with them is told before any work."""
    from glc_jax import companions, weights

    path = weights.resolve(options.weights)
    model = companions.describe_model(path)
    coding.check_rate(options.rate, model)
    return path, companions.find(kind, model, companion).path


def _redraw(
    options: argparse.Namespace,
    path: Path,
    draw: Callable[[Codec, np.ndarray, float], np.ndarray],
    *,
    mark: str,
    kept: Sequence[str | Path],
    **companion: Path,
) -> int:
    """Makes a picture of every picture; mark and kept are those of `jobs.plan`."""
    load = functools.partial(process.load_for, options, path, **companion)

    def read(job: Job) -> np.ndarray:
        pictures.check_format(job, options)  # a bad one is told before any work
        return pictures.read(job, options, load, "compress", "decompress")

    def code(job: Job, image: np.ndarray) -> tuple[np.ndarray, dict[str, Any], str]:
        codec = load()
        rate = codec.highest_rate if options.rate is None else codec.nearest_rate(options.rate)
        height, width, _ = image.shape
        found = {"width": width, "height": height, "rate": rate}
        drawn = draw(codec, image, rate)
        return drawn, found, f"{width} x {height} pixels, rate {rate:.4g}"

    steps = line.Steps(read, code, write=lambda job, image: pictures.write(job, image, options))
    find = functools.partial(images.find, leave_out=options.output)
    return line.work(options, steps, suffix=".png", find=find, mark=mark, kept=kept)
