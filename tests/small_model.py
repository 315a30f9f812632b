"""A model of a few thousand parameters, untrained, for tests that need real weights files."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import weights
from glc_jax.entropy import export
from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range

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
MULTIPLE = sizes.size_multiple(MODEL)
INITIAL_SIDE = sizes.initial_side(MODEL)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + phase) + np.cos(y / 7 - phase) for phase in (0, 1, 2)]
    noise = rng.normal(0, 8, (height, width, 3))
    return np.clip(127 + 50 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def random_parameters(shapes: dict, seed: int = 0) -> dict:
    """Random parameters of a fitting scale, without compiling the model's own initialisation.

    shapes: the tree as jax.ShapeDtypeStructs.
    """
    rng = np.random.default_rng(seed)

    def draw(path: str, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path.split("/")[-1]
        if name in ("scale", "rate_scale"):
            return np.ones(leaf.shape, np.float32)
        if name == "bias":
            # The scales among the prior's outputs start at 1, as in the model's initialisation.
            last = path.startswith(
                ("hyperprior/fusion/block_1/ffn/conv_out", "context/prior_2/ffn")
            )
            return np.full(leaf.shape, float(last), np.float32)
        fan_in = 4 * np.prod(leaf.shape[:-1]) if name == "kernel" else 1
        return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

    return weights.unflatten({path: draw(path, leaf) for path, leaf in weights.flatten(shapes)})


@functools.cache
def _shapes() -> dict:
    image = jax.ShapeDtypeStruct((1, INITIAL_SIDE, INITIAL_SIDE, 3), jnp.float32)
    rate = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(glc.build(MODEL).init, jax.random.key(0), image, rate)["params"]


def parameters(seed: int = 0) -> dict:
    """Parameters drawn so that y spans several quantisation steps and its bits are not trivial."""
    params = random_parameters(_shapes(), seed)
    params["g_a"]["rate_scale"] = np.float32(
        0.4 * np.geomspace(1, 3, 4)[:, None] * np.ones(CHANNELS)
    )
    return params


@functools.cache
def tree(seed: int = 0) -> dict:
    """What a weights file of the small model holds, its exact entropy model included."""
    images = np.stack([picture(2 * MULTIPLE, 2 * MULTIPLE, s) for s in range(4)])
    return tree_of(parameters(seed), images, np.arange(4.0))


def tree_of(params: dict, images: np.ndarray, rates: np.ndarray) -> dict:
    """The same of any parameters, calibrated on images uint8 [B, H, W, 3] at rates [B]."""
    model = glc.build(MODEL)

    @jax.jit
    def targets(params, images, rates):
        variables = {"params": params}
        latents = model.apply(variables, to_model_range(images), method="encode")
        return model.apply(variables, latents, rates, method="targets")

    samples = [targets(params, images, jnp.asarray(rates, jnp.float32))]
    entropy = export.export(model.entropy_model(), model.run, {"params": params}, samples)
    return {"params": params, "entropy": entropy}


def write_weights(path: str | os.PathLike, seed: int = 0) -> weights.Description:
    """Writes `tree` as a weights file."""
    return weights.save(path, tree(seed), {"name": f"small-{seed}", "model": MODEL})
