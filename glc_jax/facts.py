"""What a .glc file or a weights file holds, as facts for a program and as text for a person.

Knows no JAX, so that `glc info` and `glc models` answer at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from glc_jax import bitstream, weights
from glc_jax.entropy import tables
from glc_jax.entropy.symbol_coder import CodedSymbols, SymbolCoder
from glc_jax.errors import WeightsError

Facts = dict[str, Any]


def of_file(data: bytes, known: weights.Description | None = None) -> Facts:
    """The facts of a .glc file; nothing in it is decoded but the indices of z.

    Args:
      data: the whole file.
      known: weights that may be the file's; else those of the packaged models are tried.

    Returns:
      "width", "height" in pixels; "bytes", "bpp" of the file; "rate"; "sections": the bytes of each
      part of the file; "payload": the bytes, with fractions, of its "z" and "y", or None where the
      weights are not at hand; "weights": their "fingerprint", "name" and "provenance".

    Raises:
      BitstreamError: foreign, newer or damaged.
      WeightsError: the weights' config makes no model.
    """
    container = bitstream.parse(data, max_pixels=None)
    model = known
    if model is None or model.fingerprint != container.fingerprint:
        path = weights.find(container.fingerprint)
        model = None if path is None else weights.describe(path)
    payload = None
    if model is not None:
        z = _z_bits(container, model) / 8
        payload = {"z": z, "y": len(container.payload) - z}
    return {
        "width": container.width,
        "height": container.height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (container.width * container.height),
        "rate": container.rate,
        "sections": bitstream.sections(container),
        "payload": payload,
        "weights": {
            "fingerprint": container.fingerprint.hex(),
            "name": model.name if model else None,
            "provenance": model.provenance if model else None,
        },
    }


def of_weights(path: str | os.PathLike[str]) -> Facts:
    """The facts of a weights file, from its header.

    Raises:
      WeightsError: no such file, or it is damaged, foreign or newer.
    """
    model = weights.describe(path)
    return {
        "name": model.name,
        "path": str(model.path),
        "bytes": model.file_bytes,
        "parameters": model.parameters,
        "dtype": model.dtype,
        "fingerprint": model.fingerprint.hex(),
        "provenance": model.provenance,
    }


def size_note(size: int, target: int, pixels: int, at_highest: bool) -> str | None:
    """A sentence where a file of `size` bytes could not come near a target; None where it did.

    `at_highest`: its rate is the highest there is.
    """
    if size <= target and not (at_highest and size < target):
        return None
    return (
        f"{target:,} bytes are out of reach; the nearest file has {size:,} "
        f"({8 * size / pixels:.4f} bpp)."
    )


def file_text(facts: Facts) -> str:
    """Lines that tell a person what `of_file` found."""
    model, total = facts["weights"], facts["bytes"]
    lines = [
        f"  picture   {facts['width']} x {facts['height']} pixels",
        f"  file      {total:,} bytes, {facts['bpp']:.4f} bpp",
        f"  rate      {facts['rate']:.4g}",
        f"  weights   {model['fingerprint']} ({model['name'] or 'not a packaged model'})",
        *_provenance_text(model["provenance"]),
    ]
    for name, size in facts["sections"].items():
        lines.append(f"  {name:9s} {size:,} bytes, {100 * size / total:.1f} %")
        if name == "payload" and facts["payload"]:
            for part, share in facts["payload"].items():
                lines.append(f"    {part:7s} {share:,.1f} bytes, {100 * share / total:.1f} %")
    return "\n".join(lines)


def weights_text(facts: Facts) -> str:
    """Lines that tell a person what `of_weights` found."""
    return "\n".join(
        [
            f"  model     {facts['name']}, {facts['parameters']:,} parameters, {facts['dtype']}",
            f"  file      {facts['bytes'] / 1e6:.1f} MB, {facts['path']}",
            f"  weights   {facts['fingerprint']} (their name in .glc files)",
            *_provenance_text(facts["provenance"]),
        ]
    )


def z_stride(model: Mapping[str, Any]) -> int:
    """How many pixels an index of z spans: `models.glc.size_multiple`, without importing JAX."""
    return 4 * 2 ** (len(model["vqvae"]["multipliers"]) - 1)


def _z_bits(container: bitstream.Container, model: weights.Description) -> float:
    """What the indices of z cost in a file; the rest of its payload is y."""
    try:
        stride = z_stride(model.config["model"])
        size = int(model.config["model"]["hyper_codebook_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{model.path}: the config makes no model ({error!r}).") from error
    coder = SymbolCoder(tables.gaussian(), size, weights.tensor(model.path, "z_prior/frequencies"))
    coded = CodedSymbols(container.payload, container.z_prior, container.zeros_skipped)
    count = math.ceil(container.height / stride) * math.ceil(container.width / stride)
    bits, _ = coder.z_bits(coder.decoder(coded).z(count))
    return bits


def _provenance_text(provenance: Mapping[str, Any] | None) -> list[str]:
    return [f"            {key}: {value}" for key, value in (provenance or {}).items()]
