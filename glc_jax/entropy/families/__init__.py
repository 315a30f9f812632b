"""Families of distributions by name: one definition each for bits and for the coder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from glc_jax import named
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
from glc_jax.errors import ConfigError, WeightsError

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
    "from_file",
    "name_of",
]


def family(name: str, **fields: Any) -> Family:
    """The family of a name in `FAMILIES` or an import path "package.module:Class".

    An import path runs that module: it must come from the user, never from a file.

    Raises:
      ConfigError: there is no such family, or it does not have these fields.
    """
    found = named.find(name, FAMILIES, "distribution")
    try:
        return found(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The distribution {name!r} cannot be made: {error}.") from error


def name_of(made: Family) -> str:
    """The name by which `family` finds a family's class: its own, or "package.module:Class"."""
    for name, cls in FAMILIES.items():
        if type(made) is cls:
            return name
    return f"{type(made).__module__}:{type(made).__qualname__}"


def from_file(plugins: Sequence[str] = ()) -> Callable[..., Family]:
    """`family` for names that stand in a file, found as `named.find_for_file` does.

    The function raises WeightsError.
    """

    def find(name: str, **fields: Any) -> Family:
        found = named.find_for_file(name, FAMILIES, "distribution", plugins)
        if not (isinstance(found, type) and issubclass(found, Family)):
            raise WeightsError(f"The weights name {name!r}, which is no distribution.")
        fields = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        try:
            return found(**fields)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"The distribution {name!r} cannot be made: {error}.") from error

    return find
