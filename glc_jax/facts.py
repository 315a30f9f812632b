"""What a .glc file or a weights file holds, as facts for a program and as text for a person."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from glc_jax import bitstream, weights

Facts = dict[str, Any]


def of_file(
    data: bytes, known: weights.Description | None = None, plugins: Sequence[str] = ()
) -> Facts:
    """The facts of a .glc file; its symbols are decoded where the weights are at hand.

    Args:
      data: the whole file.
      known: weights that may be the file's; else those of the packaged models are tried.
      plugins: names of modules whose classes the weights may use, as of `codec.Codec`.

    Returns:
      "width", "height" in pixels; "bytes", "bpp" of the file; "rate"; "sections": the bytes of each
      part of the file; "payload": the bytes, with fractions, of each group of symbols by its name,
      or None where the weights are not at hand; "weights": their "fingerprint", "name" and
      "provenance".

    Raises:
      BitstreamError: foreign, newer or damaged.
      WeightsError: the weights' config makes no model, or they need a class of no plugin.
      InputError: a plugin cannot be imported.
    """
    container = bitstream.parse(data, max_pixels=None)
    model = known
    if model is None or model.fingerprint != container.fingerprint:
        path = weights.find(container.fingerprint)
        model = None if path is None else weights.describe(path)
    payload, highest = None, 3.0
    if model is not None:
        payload = _group_bytes(container, model, plugins)
        highest = model.highest_rate
    return {
        "width": container.width,
        "height": container.height,
        "bytes": len(data),
        "bpp": 8 * len(data) / (container.width * container.height),
        "rate": container.rate(highest),
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
        "kind": model.kind or "model",
        "base": model.config.get("base"),
        "path": str(model.path),
        "bytes": model.file_bytes,
        "parameters": model.parameters,
        "dtype": model.dtype,
        "fingerprint": model.fingerprint.hex(),
        "provenance": model.provenance,
    }


def size_note(
    size: int, target: int, pixels: int, at_highest: bool, asked: str | None = None
) -> str | None:
    """A sentence where a file of `size` bytes could not come near a target; None where it did.

    `at_highest`: its rate is the highest there is. `asked`: the target as the user gave it, where
    that was not in bytes.
    """
    if size <= target and not (at_highest and size < target):
        return None
    return (
        f"{asked or f'{target:,} bytes'} are out of reach; the nearest file has {size:,} "
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
            f"  {facts['kind']:9s} {facts['name']}, {facts['parameters']:,} parameters, "
            f"{facts['dtype']}",
            f"  file      {facts['bytes'] / 1e6:.1f} MB, {facts['path']}",
            f"  weights   {facts['fingerprint']} (their name in .glc files)"
            if facts["base"] is None
            else f"  stands on {facts['base']}, a model's weights",
            *_provenance_text(facts["provenance"]),
        ]
    )


def _group_bytes(
    container: bitstream.Container, model: weights.Description, plugins: Sequence[str]
) -> dict[str, float]:
    """What each group of symbols takes of the payload."""
    loaded = weights.load(model.path)
    if loaded.entropy is None:
        return {}
    from glc_jax import host  # imported here, since `glc models` needs nothing of it

    exact, coded = host.decode(container, loaded, plugins)
    return {name: bits / 8 for name, bits in exact.bits(coded).items()}


def _provenance_text(provenance: Mapping[str, Any] | None) -> list[str]:
    return [f"            {key}: {value}" for key, value in (provenance or {}).items()]
