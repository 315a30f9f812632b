"""Parameters as flat dicts {"vqvae/encoder/conv_in/kernel": array}, and which of them train."""

import re
from collections.abc import Mapping
from typing import Any

import jax

from glc_jax.errors import ConfigError
from glc_jax.weights import flatten, unflatten

Flat = dict[str, jax.Array]


def select(params: Mapping[str, Any], pattern: str) -> Flat:
    """The leaves of a parameter tree whose path matches the regular expression (`re.match`).

    Raises `ConfigError` when the pattern is no regular expression or matches nothing.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"`trainable` is no regular expression: {pattern!r} ({error})") from None
    selected = {path: leaf for path, leaf in flatten(params) if compiled.match(path)}
    if not selected:
        raise ConfigError(f"`trainable` matches no parameter: {pattern!r}")
    return selected


def replace(params: Mapping[str, Any], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with the leaves at these paths exchanged."""
    return unflatten({**dict(flatten(params)), **leaves})
