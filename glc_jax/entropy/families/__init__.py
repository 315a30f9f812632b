"""Families of distributions by name: one definition each for bits and for the coder."""

from __future__ import annotations

import importlib
from typing import Any

from glc_jax.entropy.families.base import Family
from glc_jax.entropy.families.categorical import Categorical, CategoricalLogits
from glc_jax.entropy.families.location_scale import (
    Gaussian,
    GeneralisedGaussian,
    Laplace,
    LocationScale,
    Logistic,
    StudentT,
)
from glc_jax.entropy.families.mixture import Mixture
from glc_jax.entropy.families.static import DeepFactorized, FourierBasis, Static
from glc_jax.errors import ConfigError

FAMILIES: dict[str, type[Family]] = {
    "categorical": Categorical,
    "categorical_logits": CategoricalLogits,
    "deep_factorized": DeepFactorized,
    "fourier_basis": FourierBasis,
    "gaussian": Gaussian,
    "gaussian_mixture": Mixture,
    "generalised_gaussian": GeneralisedGaussian,
    "laplace": Laplace,
    "logistic": Logistic,
    "student_t": StudentT,
}

__all__ = [
    "FAMILIES",
    "Categorical",
    "CategoricalLogits",
    "DeepFactorized",
    "Family",
    "FourierBasis",
    "Gaussian",
    "GeneralisedGaussian",
    "Laplace",
    "LocationScale",
    "Logistic",
    "Mixture",
    "Static",
    "StudentT",
    "family",
]


def family(name: str, **fields: Any) -> Family:
    """The family of a name in `FAMILIES` or an import path "package.module:Class".

    An import path runs that module: it must come from the user, never from a file.

    Raises:
      ConfigError: there is no such family, or it does not have these fields.
    """
    found = FAMILIES.get(name)
    if found is None:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"There is no family of distributions {name!r}: give one of "
                f'{", ".join(FAMILIES)}, or "package.module:Class".'
            ) from error
    try:
        return found(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The family {name!r} cannot be made: {error}.") from error
