"""Companions: weights that stand on a model's and are of no use without them.

A restorer is the encoder's side of the model, trained to see the clean picture in a spoiled one:
what it writes, every decoder of the model reads. A companion's file has the form of a weights file
(`weights`), and its config names the kind and the model's fingerprint, "base".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from glc_jax import weights
from glc_jax.errors import WeightsError
from glc_jax.weights import Tree

RESTORER = "restorer"
STYLIST = "stylist"
ENCODER_SIDE = ("vqvae/encoder/", "g_a/", "hyperprior/h_a/")
"""Where in a model's parameters stands what makes y and z of a picture; no decoder needs it."""


def encoder_side(params: Mapping[str, Any]) -> Tree:
    """The encoder's side of a model's parameters, in a tree of the same shape."""
    flat = dict(weights.flatten(params))
    return weights.unflatten({p: leaf for p, leaf in flat.items() if p.startswith(ENCODER_SIDE)})


def restoring(params: Mapping[str, Any], restorer: Mapping[str, Any]) -> Tree:
    """A model's parameters with the encoder's side of a restorer."""
    return weights.unflatten(dict(weights.flatten(params)) | dict(weights.flatten(restorer)))


def save(
    path: str | os.PathLike,
    kind: str,
    name: str,
    params: Mapping[str, Any],
    base: weights.Weights,
    provenance: Mapping[str, Any],
) -> weights.Description:
    """Write a companion of `base`; raises `OutputError`."""
    config = {**base.config, "name": name, "kind": kind, "base": base.fingerprint.hex()}
    return weights.save(path, {"params": params}, config, provenance)


def load(
    kind: str, base: weights.Weights, name_or_path: str | os.PathLike | None = None
) -> Mapping[str, np.ndarray]:
    """A companion's parameters, float32; raises as `find`, and where the file is damaged."""
    loaded = weights.load(find(kind, base, name_or_path).path)
    flat = weights.flatten(loaded.tree.get("params", {}))
    return weights.unflatten({p: leaf.astype(np.float32, copy=False) for p, leaf in flat})


def find(
    kind: str,
    base: weights.Weights | weights.Description,
    name_or_path: str | os.PathLike | None = None,
) -> weights.Description:
    """The companion of a packaged name or file, or the packaged one of `base`, from its header.

    Raises `WeightsError` where there is none, or it is of another kind or of other weights.
    """
    if name_or_path is None:
        found = _packaged(kind, base.fingerprint)
        if found is None:
            raise WeightsError(
                f"The weights {base.config['name']!r} have no {kind} in this package; train one "
                f"(see docs/applications.md) and name its file with --{kind}."
            )
        return found
    found = describe(kind, name_or_path)
    if found.config["base"] != base.fingerprint.hex():
        raise WeightsError(
            f"{name_or_path}: a {kind} of the weights {found.config['base']}; these are "
            f"{base.fingerprint.hex()} ({base.config['name']})."
        )
    return found


def describe(kind: str, name_or_path: str | os.PathLike) -> weights.Description:
    """What the header of a companion says.

    Raises `WeightsError` where there is none of this name, or it is of another kind.
    """
    found = weights.describe(weights.resolve(name_or_path))
    if found.kind != kind:
        raise WeightsError(f"{name_or_path}: holds a {found.kind or 'model'}, not a {kind}.")
    return found


def describe_model(path: str | os.PathLike) -> weights.Description:
    """What the header of a model's weights file says; raises `WeightsError`, also for others."""
    found = weights.describe(path)
    require_model(found)
    return found


def require_model(loaded: weights.Weights | weights.Description) -> None:
    """Raises `WeightsError` where weights are a companion's, and no model."""
    kind = loaded.config.get("kind")
    if kind is not None:
        raise WeightsError(
            f"{loaded.config['name']}: holds a {kind}, not a model; name the model's weights "
            f"({loaded.config.get('base')}) and this file with --{kind}."
        )


def _packaged(kind: str, fingerprint: bytes) -> weights.Description | None:
    for found in map(weights.describe, weights.packaged().values()):
        if found.kind == kind and found.config["base"] == fingerprint.hex():
            return found
    return None
