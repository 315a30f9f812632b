"""Parts that a config names: this package's by a name, one of someone's own by its path."""

import importlib
from collections.abc import Mapping
from typing import Any

from glc_jax.errors import ConfigError


def find(name: str, known: Mapping[str, Any], what: str) -> Any:
    """`known[name]`, or what "package.module:Class" names.

    `what` is the kind of part, for messages. Raises `ConfigError` where there is none.
    """
    if name in known:
        return known[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"There is no {what} {name!r}: {', '.join(map(str, known))}, or one of your own as "
            "'package.module:Class'."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"The {what} {name!r} cannot be imported: {error}") from error
