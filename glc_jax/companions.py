"""Companions: weights that stand on a model's and are of no use without them.

A restorer is the encoder's side of the model, trained to see the clean picture in a spoiled one:
what it writes, every decoder of the model reads. A companion's file has the form of a weights file
(`weights`), and its config names the kind and the model's fingerprint, "base".
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from glc_jax import weights
from glc_jax.errors import WeightsError
from glc_jax.weights import Tree

RESTORER = "restorer"
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
    """A companion's parameters, float32: of a packaged name or file, or the packaged one of `base`.

    Raises `WeightsError` where there is none, or it is of another kind or of other weights.
    """
    path = _packaged(kind, base.fingerprint) if name_or_path is None else None
    if path is None and name_or_path is None:
        raise WeightsError(
            f"The weights {base.config['name']!r} have no {kind} in this package; train one (see "
            f"docs/applications.md) and name its file with --{kind}."
        )
    loaded = weights.load(path or weights.resolve(name_or_path))
    if loaded.config.get("kind") != kind:
        found = loaded.config.get("kind", "model")
        raise WeightsError(f"{name_or_path}: holds a {found}, not a {kind}.")
    if loaded.config["base"] != base.fingerprint.hex():
        raise WeightsError(
            f"{name_or_path}: a {kind} of the weights {loaded.config['base']}; these are "
            f"{base.fingerprint.hex()} ({base.config['name']})."
        )
    flat = weights.flatten(loaded.tree.get("params", {}))
    return weights.unflatten({p: leaf.astype(np.float32, copy=False) for p, leaf in flat})


def require_model(loaded: weights.Weights) -> None:
    """Raises `WeightsError` where weights are a companion's, and no model."""
    kind = loaded.config.get("kind")
    if kind is not None:
        raise WeightsError(
            f"{loaded.config['name']}: holds a {kind}, not a model; name the model's weights "
            f"({loaded.config.get('base')}) and this file with --{kind}."
        )


def _packaged(kind: str, fingerprint: bytes) -> pathlib.Path | None:
    for path in weights.packaged().values():
        config = weights.describe(path).config
        if config.get("kind") == kind and config.get("base") == fingerprint.hex():
            return path
    return None
