"""`glc compress` and `glc decompress`: pictures to .glc files and back."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glc_jax import images
from glc_jax.cli import jobs, line, messages, pictures, process, styles
from glc_jax.cli.jobs import SUFFIX, Job, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from glc_jax.codec import Codec
    from glc_jax.weights import Description


def compress(options: argparse.Namespace) -> int:
    """`glc compress`."""
    from glc_jax import companions, facts, weights

    pictures.check_background(options.background)
    jobs.check_habit(options.inputs, options.output, made=SUFFIX)
    if options.restorer is not None and not options.restore:
        raise UsageError("--restorer: says what --restore is to use; give --restore as well.")
    path = weights.resolve(options.weights)
    model = companions.describe_model(path)  # a bad weights file is told before any work
    check_rate(options.rate, model)
    named = {}
    if options.restore:
        named["restorer"] = companions.find(companions.RESTORER, model, options.restorer).path
    load = functools.partial(process.load_for, options, path, **named)
    how = {"restore": options.restore, "fast": options.fast}

    def code(job: Job, image: Any) -> tuple[bytes, dict[str, Any], str]:
        codec = load()
        height, width, _ = image.shape
        target = options.target_bytes
        if options.target_bpp is not None:
            target = int(options.target_bpp * width * height / 8)
        if target is None:
            rate = codec.nearest_rate(options.rate)
            data = codec.compress(image, rate=rate, **how)
        else:
            data, rate = codec.compress_to_size(image, target_bytes=target, **how)
            asked = None if options.target_bpp is None else f"{options.target_bpp:g} bpp"
            highest = rate == codec.highest_rate
            note = facts.size_note(len(data), target, width * height, highest, asked)
            if note:
                messages.warn(f"{job.source}: {note}")
        bpp = 8 * len(data) / (width * height)
        found = {"bytes": len(data), "bpp": bpp, "rate": rate}
        return data, found, f"{len(data):,} bytes, {bpp:.4f} bpp, rate {rate:.4g}"

    steps = line.Steps(
        read=lambda job: pictures.read(job, options, load, "compress"),
        code=code,
        write=lambda job, data: job.write(data),
    )
    kept = named.values()
    return line.work(options, steps, suffix=SUFFIX, find=images.find, kept=kept)


def decompress(options: argparse.Namespace) -> int:
    """`glc decompress`."""
    if options.preview:
        process.prepare_numpy()
    from glc_jax import bitstream, companions, weights

    jobs.check_habit(options.inputs, options.output, made=None)
    styles.check_options(options)
    given = None if options.weights is None else weights.resolve(options.weights)
    model = None if given is None else companions.describe_model(given)
    style = None
    if options.style is not None:
        if options.fast:
            raise UsageError("--fast: what is painted in a style takes as long; leave it out.")
        styles.check_stylist(options.stylist, model)
        style = styles.read(options)

    def load(path: Path) -> Codec:
        named = {}
        if style is not None:
            found = companions.describe_model(path)
            named["stylist"] = companions.find(companions.STYLIST, found, options.stylist).path
        return process.load_for(options, path, **named)

    def read(job: Job) -> Any:
        pictures.check_format(job, options)  # a bad one is told before any work
        data = jobs.read(job.source)
        with messages.about(job.source):
            return data, bitstream.parse(data, max_pixels=options.max_pixels)

    def code(job: Job, loaded: Any) -> tuple[Any, dict[str, Any], str]:
        data, header = loaded
        how = {"preview": options.preview, "fast": options.fast}
        if style is not None:
            how = {"style": style, "strength": options.style_strength}
        with messages.about(job.source):
            path = given or weights.matching(header.fingerprint)
            image = _quick_preview(header, path, options) if options.preview else None
            if image is None:
                codec = load(path)
                image = codec.decompress(data, max_pixels=options.max_pixels, **how)
        found = {"width": header.width, "height": header.height}
        return image, found, f"{header.width} x {header.height} pixels"

    steps = line.Steps(read, code, write=lambda job, image: pictures.write(job, image, options))
    return line.work(options, steps, suffix=".png", find=jobs.find_glc, kept=styles.files(options))


def _quick_preview(header: Any, path: Path, options: argparse.Namespace) -> Any:
    """A preview without JAX, which takes longer to start; None where there is none to be had."""
    from glc_jax import preview

    loaded = process.load_weights(path)
    return preview.of_file(header, loaded, options.plugins, options.max_memory)


def check_rate(rate: float | None, model: Description) -> None:
    """Raises UsageError where --rate is one that a model does not have."""
    check_rates("--rate", [] if rate is None else [rate], model)


def check_rates(option: str, rates: Sequence[float], model: Description) -> None:
    """Raises UsageError for a rate that a model does not have."""
    for rate in rates:
        if rate > model.highest_rate:
            raise UsageError(
                f"{option}: {rate:g} is above the highest rate of the weights {model.name}, "
                f"{model.highest_rate:g}."
            )
