"""Entropy networks small enough for tests: 8 channels, random weights, calibrated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.entropy import calibrate
from glc_jax.models.hyperprior import CategoricalHyperprior
from glc_jax.models.spatial_prior import FourPartContext

CHANNELS = 8
CODEBOOK = 16
HYPERPRIOR = CategoricalHyperprior(CHANNELS, CODEBOOK)
CONTEXT = FourPartContext(CHANNELS)


@functools.cache
def params() -> dict:
    """Random parameters that make y_q lively: scales mostly between 0.1 and 3."""
    y = jnp.zeros((1, 8, 8, CHANNELS))
    key = jax.random.key(0)
    hyperprior = jax.eval_shape(
        lambda: HYPERPRIOR.init(
            key, y, method=lambda m, y: m.prior_params(m.quantize(m.analysis(y)).quantized)
        )
    )
    context = jax.eval_shape(lambda: CONTEXT.init(key, y, jnp.zeros((1, 8, 8, 3 * CHANNELS))))
    tree = {"hyperprior": hyperprior["params"], "context": context["params"]}
    rng = np.random.default_rng(0)

    def draw(path: tuple, leaf: jax.Array) -> np.ndarray:
        name = path[-1].key
        if name == "codebook":
            return rng.normal(size=leaf.shape).astype(np.float32)
        if name == "bias":
            return (0.1 * rng.normal(size=leaf.shape)).astype(np.float32)
        fan_in = np.prod(leaf.shape[:2] if leaf.ndim == 3 else leaf.shape[:-1])
        return (rng.normal(size=leaf.shape) * 0.7 / np.sqrt(fan_in)).astype(np.float32)

    tree = jax.tree_util.tree_map_with_path(draw, tree)
    last = tree["hyperprior"]["fusion"]["block_1"]["ffn"]["conv_out"]["bias"]
    last[: 2 * CHANNELS] += np.repeat(np.float32([1.2, 0.5]), CHANNELS)  # quant_step, scales
    tree["context"]["prior_2"]["ffn"]["conv_out"]["bias"][:CHANNELS] += 0.5  # scales
    return tree


def inputs(seed: int, batch: int = 2, size: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """z_indices [batch, size, size] and y [batch, 4 size, 4 size, CHANNELS]."""
    rng = np.random.default_rng(seed)
    z_indices = rng.integers(0, CODEBOOK, (batch, size, size))
    y = rng.laplace(size=(batch, 4 * size, 4 * size, CHANNELS)).astype(np.float32)
    return z_indices, y


@functools.cache
def tree() -> dict:
    """The "exact" part of a weights file with these networks."""
    return calibrate.quantise(params(), [inputs(seed) for seed in range(100, 104)])
