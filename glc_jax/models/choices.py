"""The parts of an entropy model by name: what `config.model.entropy` may say.

A part is one of those below or an import path "package.module:Class", with fields where a mapping
of "name" and fields is given. An import path runs its module, so it comes from the user's own
config; weights files may only name classes of modules that whoever opens them has listed as
plugins.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glc_jax import named
from glc_jax.entropy import families
from glc_jax.errors import ConfigError

HYPERPRIORS = named.Paths(
    {
        "categorical": "glc_jax.models.hyperprior:CategoricalHyperprior",
        "factorised": "glc_jax.models.factorised_hyperprior:FactorisedHyperprior",
        "fsq": "glc_jax.models.finite_scalar_hyperprior:FiniteScalarHyperprior",
    }
)
CONTEXTS = named.Paths(
    {
        "none": "glc_jax.models.no_context:NoContext",
        "checkerboard": "glc_jax.models.checkerboard:CheckerboardContext",
        "channel_groups": "glc_jax.models.channel_groups:ChannelGroupsContext",
        "four_part": "glc_jax.models.spatial_prior:FourPartContext",
        "space_channel": "glc_jax.models.space_channel:SpaceChannelContext",
    }
)
Z_PRIORS = named.Paths(
    {
        "uniform": "glc_jax.models.z_prior:UniformPrior",
        "static": "glc_jax.models.z_prior:StaticPrior",
        "autoregressive": "glc_jax.models.autoregressive_prior:AutoregressivePrior",
    }
)
DISTRIBUTIONS = {
    name: family
    for name, family in families.FAMILIES.items()
    if not (family.static or family.discrete)
}
"""Those of y, whose parameters the networks give."""

PARTS: dict[str, Mapping[str, Any]] = {
    "hyperprior": HYPERPRIORS,
    "context": CONTEXTS,
    "distribution": DISTRIBUTIONS,
    "z_prior": Z_PRIORS,
}


@dataclasses.dataclass(frozen=True)
class Choices:
    """`config.model.entropy`; the defaults are GLC as published.

    A part is a name, or a mapping of "name" and the fields of its class.
    """

    hyperprior: named.Entry = "categorical"
    context: named.Entry = "four_part"
    distribution: named.Entry = "gaussian"
    z_prior: named.Entry = "static"  # uniform as published; a file may choose that as well
    steps: int = 0  # in which y is coded, where the context lets one choose; 0: its own number


def read(model: Mapping[str, Any]) -> Choices:
    """The choices of a config's `model` section. Raises ConfigError for what is none."""
    given = dict(model.get("entropy") or {})
    fields = [field.name for field in dataclasses.fields(Choices)]
    unknown = sorted(given.keys() - set(fields))
    if unknown:
        raise ConfigError(
            f"config.model.entropy.{unknown[0]} is no field; there are {', '.join(fields)}."
        )
    for part in PARTS.keys() & given.keys():
        name, further = named.entry(given[part], part)
        given[part] = {"name": name, **further} if further else name
    steps = given.get("steps", 0)
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ConfigError(f"config.model.entropy.steps is {steps!r}; give a number, or 0.")
    return Choices(**given)


def canonical(model: Mapping[str, Any]) -> dict[str, Any]:
    """A `model` section whose "entropy" says only what is not GLC as published.

    So that equal models have equal sections, those of releases without "entropy" among them.
    """
    found, published = dataclasses.asdict(read(model)), dataclasses.asdict(Choices())
    differing = {name: value for name, value in found.items() if value != published[name]}
    rest = {name: value for name, value in model.items() if name != "entropy"}
    return {**rest, "entropy": differing} if differing else rest


Finder = Callable[[str, str], Any]
"""(part, name) -> its class."""


def of_user(part: str, name: str) -> Any:
    """The class of a name, imported where it is a path. Raises ConfigError."""
    return named.find(name, PARTS[part], part)


def of_file(plugins: Sequence[str]) -> Finder:
    """Finds the classes that a weights file names: known ones, and those of the plugins."""
    return functools.partial(_of_file, plugins)


def _of_file(plugins: Sequence[str], part: str, name: str) -> Any:
    return named.find_for_file(name, PARTS[part], part, plugins)


def make(part: str, entry: named.Entry, find: Finder, **given: Any) -> Any:
    """A part with the fields of its entry, and those of `given` that its class declares.

    Raises ConfigError where it cannot be made of them.
    """
    name, fields = named.entry(entry, part)
    found = find(part, name)
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    declared = {field.name for field in dataclasses.fields(found)}
    given = {key: value for key, value in given.items() if key in declared}
    try:
        return found(**{**given, **fields})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The {part} {name!r} cannot be made: {error}.") from error


def entropy_parts(
    chosen: Choices, channels: int, codebook_size: int, dtype: Any, find: Finder = of_user
) -> tuple[Any, Any, Any]:
    """(hyperprior, context, z prior) of y with `channels`; the last is None where z needs none.

    `codebook_size` is how many values z should have at a position. Raises ConfigError for what
    does not go together.
    """
    family = make("distribution", chosen.distribution, find)
    if not isinstance(family, families.Family) or family.static or family.discrete:
        raise ConfigError(
            f"The distribution {chosen.distribution!r} is none that a network gives parameters to."
        )
    shared = {"channels": channels, "family": family, "dtype": dtype}
    hyperprior = make("hyperprior", chosen.hyperprior, find, codebook_size=codebook_size, **shared)
    context = make("context", _with_steps(chosen), find, **shared)
    if hyperprior.alphabet() is not None:
        size = hyperprior.alphabet()
        return hyperprior, context, make("z_prior", chosen.z_prior, find, size=size, dtype=dtype)
    if chosen.z_prior != Choices.z_prior:
        raise ConfigError(
            f"The hyperprior {chosen.hyperprior!r} has a distribution of z of its own: leave out "
            "entropy.z_prior."
        )
    return hyperprior, context, None


def _with_steps(chosen: Choices) -> named.Entry:
    """The context's entry, with the number of steps where one is asked for."""
    if not chosen.steps:
        return chosen.context
    name, fields = named.entry(chosen.context, "context")
    return {"name": name, "steps": chosen.steps, **fields}
