"""A model of a few thousand parameters, untrained, for tests that need real weights files."""

import os

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import weights
from glc_jax.entropy import calibrate
from glc_jax.models import glc

CHANNELS = 8
MODEL = {
    "latent_channels": CHANNELS,
    "codebook_size": 16,
    "hyper_codebook_size": 32,
    "rate_points": 4,
    "vqvae": {
        "base_channels": 4,
        "multipliers": [1, 2, 2],
        "encoder_blocks": [1, 1, 1],
        "generator_blocks": [1, 1, 1],
        "norm_groups": 2,
        "window": 32,
        "latent_conv": True,
        "output_swish": True,
    },
    "code_predictor": None,
}
MULTIPLE = glc.size_multiple(MODEL)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + phase) + np.cos(y / 7 - phase) for phase in (0, 1, 2)]
    noise = rng.normal(0, 8, (height, width, 3))
    return np.clip(127 + 50 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def parameters(seed: int = 0) -> dict:
    """Parameters drawn so that y spans several quantisation steps and its bits are not trivial."""
    model = glc.build(MODEL)
    image = jnp.zeros((1, MULTIPLE, MULTIPLE, 3))
    params = jax.jit(model.init)(jax.random.key(seed), image, jnp.zeros(1))["params"]
    params["g_a"]["rate_scale"] = 0.4 * jnp.geomspace(1, 3, 4)[:, None] * jnp.ones(CHANNELS)
    quantizer = params["hyperprior"]["quantizer"]
    quantizer["codebook"] = jax.random.normal(jax.random.key(seed + 1), (32, CHANNELS))
    return jax.tree.map(np.asarray, params)


def write_weights(path: str | os.PathLike, seed: int = 0) -> weights.Description:
    """A weights file of the small model, integer entropy networks included."""
    model, params = glc.build(MODEL), parameters(seed)
    variables = {"params": params}
    images = np.stack([picture(2 * MULTIPLE, 2 * MULTIPLE, s) for s in range(4)])
    latents = model.apply(variables, images / np.float32(127.5) - 1, method="encode")
    y = model.apply(variables, latents, jnp.arange(4.0), method="analysis")
    z = model.apply(variables, y, method="hyper_analysis")
    indices = model.apply(variables, z, method="quantize_z").indices
    calibration = [(np.asarray(indices), np.asarray(y))]
    tree = {"params": params, "exact": calibrate.quantise(params, calibration)}
    return weights.save(path, tree, {"name": f"small-{seed}", "model": MODEL})
