"""The parameters of a family of distributions as channels of a network's output.

A network gives them side by side, in the order of `family.parameters`: of a Gaussian the C scales,
then the C means. A parameter with several values an element (a mixture's) has them side by side.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.entropy.families import Family


def width(family: Family) -> int:
    """P: how many values the parameters of one element take together."""
    return sum(family.width(name) for name in family.parameters)


def split_parameters(x: jax.Array, family: Family) -> dict[str, jax.Array]:
    """[..., P C] -> {name: [..., width C]}."""
    widths = [family.width(name) for name in family.parameters]
    channels = x.shape[-1] // sum(widths)
    ends = [int(end) * channels for end in np.cumsum(widths)]
    parts = jnp.split(x, ends[:-1], axis=-1)
    return dict(zip(family.parameters, parts, strict=True))


def parameters_init(
    family: Family, channels: int, before: Sequence[float] = ()
) -> nn.initializers.Initializer:
    """A bias at which the parameters have their values at the start of training.

    `before` are the values of sections of C channels that come first.
    """
    start = family.start()
    parts = [np.full(channels, value) for value in before]
    for name in family.parameters:
        values = np.broadcast_to(start.get(name, 0.0), family.width(name))
        parts.append(np.tile(values, channels))

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        del key
        return jnp.asarray(np.concatenate(parts), dtype).reshape(shape)

    return init
