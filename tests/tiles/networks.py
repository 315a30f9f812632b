"""A small E and G whose attention windows are cut at the picture's edges."""

import functools

import jax
import numpy as np

from glc_jax.models import vqvae
from glc_jax.tiles import stages
from tests import small_model

FIELDS = {
    "base_channels": 4,
    "multipliers": (1, 2),
    "blocks": (1, 1),
    "latent_channels": 4,
    "norm_groups": 2,
    "window": 16,
}
ENCODER, GENERATOR = vqvae.Encoder(**FIELDS), vqvae.Generator(**FIELDS)


@functools.cache
def network(kind: str) -> tuple:
    """(module, its parameters, its chain) of "E" or "G"."""
    module, channels = (ENCODER, 3) if kind == "E" else (GENERATOR, 4)
    x = jax.ShapeDtypeStruct((1, 8, 8, channels), np.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    params = small_model.random_parameters(params, seed=1)
    return module, params, stages.chain(module.parts(), channels, module.norm_groups, params)


@functools.cache
def whole(kind: str):
    """The network over a whole map, compiled."""
    module, params, _ = network(kind)
    return jax.jit(functools.partial(module.apply, {"params": params}))
