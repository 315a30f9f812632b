"""The manner in which G draws a picture: the statistics of its channels behind each norm.

A picture drawn in another's manner has that picture's mean and deviation of every channel behind
every norm, which is AdaIN (Huang and Belongie 2017, arXiv 1703.06868) all the way through G, from
what is shown to how it is stroked. For one picture it comes to other scales and biases of the
norms.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax import weights
from glc_jax.models.blocks import NORM_EPSILON, GroupNorm, moments_of
from glc_jax.models.vqvae import Generator

EPSILON = 1e-5


class Statistics(NamedTuple):
    """Of each channel, [B, C]."""

    mean: jax.Array
    deviation: jax.Array


class Norm(NamedTuple):
    """What a norm multiplies by and adds, [B, C]."""

    scale: jax.Array
    bias: jax.Array


Manner = dict[str, Statistics]  # by the norm's path among G's parameters


class Drawn(NamedTuple):
    """A picture [B, H, W, 3], not clamped, and the norms that drew it, by path."""

    picture: jax.Array
    norms: dict[str, Norm]


def statistics(x: jax.Array) -> Statistics:
    """Those of [B, H, W, C], in float32."""
    x = x.astype(jnp.float32)
    return Statistics(x.mean((1, 2)), jnp.sqrt(x.var((1, 2)) + EPSILON))


def seen(network: Generator, params: Mapping[str, Any], latent: jax.Array) -> Manner:
    """The manner of the picture of a latent [B, h, w, C]. network, params: G and its parameters."""
    found = {}

    def look(path: str, plain: Statistics) -> Statistics:
        found[path] = plain
        return plain

    _draw(network, params, latent, look)
    return found


def drawn(
    network: Generator, params: Mapping[str, Any], latent: jax.Array, wanted: Manner
) -> Drawn:
    """The picture of a latent [B, h, w, C] in another picture's manner."""
    return _draw(network, params, latent, lambda path, plain: wanted[path])


def with_norms(params: Mapping[str, Any], norms: Mapping[str, Norm]) -> weights.Tree:
    """G's parameters with the norms of one picture (B = 1)."""
    flat = dict(weights.flatten(params))
    for path, norm in norms.items():
        flat[f"{path}/scale"], flat[f"{path}/bias"] = norm.scale[0], norm.bias[0]
    return weights.unflatten(flat)


def _draw(
    network: Generator,
    params: Mapping[str, Any],
    latent: jax.Array,
    choose: Callable[[str, Statistics], Statistics],
) -> Drawn:
    """G, where `choose` gives the statistics behind a norm, of its path and those that it has."""
    norms = {}

    def norm(call: Callable[..., Any], args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if not isinstance(module, GroupNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        x, path, own = args[0], "/".join(module.path), module.variables["params"]
        groups = moments_of(x, module.groups)
        repeats = x.shape[-1] // module.groups
        mean, variance = (jnp.repeat(m, repeats, axis=1) for m in groups)
        factor = jax.lax.rsqrt(variance + NORM_EPSILON)
        channels = statistics((x - mean[:, None, None]) * factor[:, None, None])
        plain = Statistics(
            channels.mean * own["scale"] + own["bias"], channels.deviation * abs(own["scale"])
        )
        chosen = choose(path, plain)
        scale = jnp.sign(own["scale"]) * chosen.deviation / channels.deviation
        bias = chosen.mean - channels.mean * scale
        norms[path] = Norm(scale, bias)
        h = (x - mean[:, None, None]) * (factor * scale)[:, None, None] + bias[:, None, None]
        h = h.astype(module.dtype or x.dtype)
        return module.activation(h) if module.activation else h

    plain = network.clone(remat=False, parent=None)
    with nn.intercept_methods(norm):
        picture = plain.apply({"params": params}, latent, True)
    return Drawn(picture, norms)
