"""The parts of an entropy model by name: what `config.model.entropy` may say.

A name is one of those below or an import path "package.module:Class". An import path runs its
module, so it comes from the user's own config; weights files may only name classes of modules
that whoever opens them has listed as plugins.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glc_jax.entropy import families
from glc_jax.errors import ConfigError, WeightsError
from glc_jax.models.hyperprior import CategoricalHyperprior
from glc_jax.models.spatial_prior import FourPartContext
from glc_jax.models.z_prior import StaticPrior, UniformPrior

HYPERPRIORS = {"categorical": CategoricalHyperprior}
CONTEXTS = {"four_part": FourPartContext}
Z_PRIORS = {"uniform": UniformPrior, "static": StaticPrior}

DEFAULTS = {
    "hyperprior": "categorical",
    "z_prior": "static",
    "context": "four_part",
    "distribution": "gaussian",
}
"""GLC as published; z's prior is uniform there, which a file may also choose."""

_KNOWN: dict[str, Mapping[str, Any]] = {
    "hyperprior": HYPERPRIORS,
    "z_prior": Z_PRIORS,
    "context": CONTEXTS,
    "distribution": families.FAMILIES,
}

Finder = Callable[[str, str], Any]


def chosen(model: Mapping[str, Any]) -> dict[str, str]:
    """The four names of a config's `model` section, GLC's own where it says nothing."""
    return {**DEFAULTS, **{k: v for k, v in model.get("entropy", {}).items() if k in DEFAULTS}}


def fields_of(model: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Further fields of a part: `entropy.fields.context` and so on."""
    return dict(model.get("entropy", {}).get("fields", {}).get(part, {}))


def of_user(part: str, name: str) -> Any:
    """The class of a name, imported where it is a path. Raises ConfigError."""
    if name in _KNOWN[part]:
        return _KNOWN[part][name]
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"There is no {part} {name!r}: give one of {', '.join(_KNOWN[part])}, or "
            f'"package.module:Class" ({error}).'
        ) from error


def of_file(plugins: Sequence[str]) -> Finder:
    """Finds the classes that a weights file names: known ones, and those of the plugins."""

    def find(part: str, name: str) -> Any:
        if name in _KNOWN[part]:
            return _KNOWN[part][name]
        module, _, attribute = name.partition(":")
        if module not in plugins:
            raise WeightsError(
                f"The weights need the {part} {name!r}, which is not part of glc_jax: name its "
                "module with --plugin (plugins=) if you trust it."
            )
        try:
            return getattr(sys.modules[module], attribute)
        except (KeyError, AttributeError) as error:
            raise WeightsError(f"The module {module!r} has no {attribute!r}.") from error

    return find
