"""Rounding and its differentiable stand-ins.

First functions of arrays, then the quantisers that a config names: frozen dataclasses, each called
with the values and a `Moment`, which holds whatever one may need. Only `round_half_even` is used
when a file is written.

    quantiser = quantize.from_config("mixed")
    values, coded_values = quantiser(y - mean, Moment(step, keys))
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from glc_jax import named
from glc_jax.entropy.schedules import Schedule, schedule_from_config
from glc_jax.errors import ConfigError


def round_half_even(x: jax.Array) -> jax.Array:
    """The nearest integer, halves to the even one. Its gradient is 0."""
    return jnp.round(x)


def straight_through(x: jax.Array) -> jax.Array:
    """Rounds forward, passes the gradient unchanged (Theis et al. 2017, arXiv 1703.00395)."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def additive_noise(x: jax.Array, rng: jax.Array) -> jax.Array:
    """x + U(-1/2, 1/2), rounding's stand-in in training (Ballé et al. 2017, arXiv 1611.01704)."""
    return x + jax.random.uniform(rng, x.shape, x.dtype, -0.5, 0.5)


def universal(x: jax.Array, rng: jax.Array) -> jax.Array:
    """Rounding to a lattice with a random shift, one per sample (first axis).

    Forward: round(x - u) + u with u ~ U(-1/2, 1/2); backward: the identity. Its error has the
    distribution of `additive_noise` given x (Choi et al. 2019, arXiv 1909.07829).
    """
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    shift = jax.random.uniform(rng, shape, x.dtype, -0.5, 0.5)
    return straight_through(x - shift) + shift


def soft_round(x: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """A differentiable function between the identity (alpha -> 0) and rounding (alpha -> inf).

    s(x) = floor(x) + 1/2 + tanh(alpha r) / (2 tanh(alpha / 2)), r = x - floor(x) - 1/2
    (Agustsson and Theis 2020, arXiv 2006.09952, section 4.1). alpha is at least 1e-3 here.
    """
    alpha = jnp.maximum(alpha, 1e-3)
    centre = jnp.floor(x) + 0.5
    return centre + jnp.tanh(alpha * (x - centre)) / (2 * jnp.tanh(alpha / 2))


def soft_round_inverse(y: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """The x with soft_round(x, alpha) = y.

    floor(y) + 1/2 + atanh(2 r tanh(alpha / 2)) / alpha, r = y - floor(y) - 1/2. Near integers it
    steepens with alpha; in float32 its slope is held finite.
    """
    alpha = jnp.maximum(alpha, 1e-3)
    centre = jnp.floor(y) + 0.5
    ratio = 2 * (y - centre) * jnp.tanh(alpha / 2)
    largest = 1 - jnp.finfo(ratio.dtype).eps
    return centre + jnp.arctanh(jnp.clip(ratio, -largest, largest)) / alpha


def soft_round_conditional_mean(y: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """E[x | soft_round(x) + u = y], u ~ U(-1/2, 1/2), for x of locally constant density.

    Such x fill the interval from s^-1(y - 1/2) to s^-1(y + 1/2), which is 1 wide, so the mean is
    s^-1(y - 1/2) + 1/2 (Agustsson and Theis 2020, section 4.2).
    """
    return soft_round_inverse(y - 0.5, alpha) + 0.5


def stochastic_gumbel(x: jax.Array, rng: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """A relaxed random choice between the two nearest integers.

    Floor and ceiling have the logits -atanh(distance) / temperature; a sample of the Gumbel-softmax
    distribution of the same temperature weighs them (Yang et al. 2020, arXiv 2006.04240, section
    3.2). As the temperature falls the choice becomes rounding.
    """
    below = jnp.floor(x)
    largest = 1 - 1e-5
    up = jnp.clip(x - below, 1e-5, largest)
    logit = (jnp.arctanh(up) - jnp.arctanh(1 - up)) / temperature
    noise = jax.random.logistic(rng, x.shape, x.dtype)  # the difference of two Gumbel variables
    return below + jax.nn.sigmoid((logit + noise) / temperature)


class Moment(NamedTuple):
    """What a quantiser may need to know beside the values.

    step: of training, int scalar. keys: [B] random keys, one per sample, so that a batch may be
    divided in any way. scale: of the values' distribution, of their shape, where it is known.
    """

    step: jax.Array
    keys: jax.Array
    scale: jax.Array | None = None


class Quantised(NamedTuple):
    """What stands in for the rounded values, each of their shape.

    values go on to the reconstruction, coded_values to the rate.
    """

    values: jax.Array
    coded_values: jax.Array


class Quantiser(Protocol):
    """Values [B, ...], less the centre of their distribution, -> stand-ins of rounded ones."""

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised: ...


_SHARPENING = Schedule(1.0, 12.0, 200_000, "geometric")
_COOLING = Schedule(0.5, 0.05, 200_000, "geometric")


@dataclasses.dataclass(frozen=True)
class StraightThrough:
    """`straight_through`."""

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised:
        rounded = straight_through(values)
        return Quantised(rounded, rounded)


@dataclasses.dataclass(frozen=True)
class Noise:
    """`additive_noise`."""

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised:
        noisy = jax.vmap(additive_noise)(values, moment.keys)
        return Quantised(noisy, noisy)


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Rounded for the reconstruction, with a straight-through gradient, and noisy for the rate.

    Minnen and Singh 2020 (arXiv 2007.08739), section 3.4.
    """

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised:
        noisy = jax.vmap(additive_noise)(values, moment.keys)
        return Quantised(straight_through(values), noisy)


@dataclasses.dataclass(frozen=True)
class Universal:
    """`universal`."""

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised:
        shifted = jax.vmap(lambda sample, key: universal(sample[None], key)[0])
        quantised = shifted(values, moment.keys)
        return Quantised(quantised, quantised)


@dataclasses.dataclass(frozen=True)
class SoftRound:
    """Soft rounding, noise, and the conditional mean: Agustsson and Theis 2020, section 4.

    The rate is that of the noisy soft-rounded values. `alpha` rises over training, from nearly
    the identity to nearly rounding.
    """

    alpha: Schedule = _SHARPENING

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised:
        alpha = self.alpha(moment.step)
        noisy = jax.vmap(additive_noise)(soft_round(values, alpha), moment.keys)
        return Quantised(soft_round_conditional_mean(noisy, alpha), noisy)


@dataclasses.dataclass(frozen=True)
class StochasticGumbel:
    """`stochastic_gumbel`, whose temperature falls over training."""

    temperature: Schedule = _COOLING

    def __call__(self, values: jax.Array, moment: Moment) -> Quantised:
        temperature = self.temperature(moment.step)
        sampled = jax.vmap(lambda sample, key: stochastic_gumbel(sample, key, temperature))
        chosen = sampled(values, moment.keys)
        return Quantised(chosen, chosen)


QUANTISERS: dict[str, type[Quantiser]] = {
    "mixed": Mixed,
    "noise": Noise,
    "soft_round": SoftRound,
    "stochastic_gumbel": StochasticGumbel,
    "straight_through": StraightThrough,
    "universal": Universal,
}


def from_config(config: named.Entry) -> Quantiser:
    """The quantiser of a config: a name, or a mapping of "name" and the quantiser's fields.

    The name is one of QUANTISERS or an import path "package.module:Class". A schedule among the
    fields is a number or a mapping of `Schedule`'s own fields.

    Raises:
      ConfigError: there is no such quantiser, or it does not have these fields.
    """
    name, fields = named.entry(config, "quantizer")
    found = named.find(name, QUANTISERS, "quantizer")
    try:
        declared = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
        defaults = {f.name: f.default for f in declared}
        for field, value in fields.items():
            if isinstance(defaults.get(field), Schedule):
                fields[field] = schedule_from_config(value)
        return found(**fields)
    except TypeError as error:
        raise ConfigError(f"The quantizer {name!r} cannot be made: {error}.") from error
