"""The integer entropy networks of a converted checkpoint, and what they cost in bits.

Converting chooses the scales of the integer networks from the ranges that their float originals
reach on a few pictures. Pictures unlike these stay decodable, with more bits.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import images, weights
from glc_jax.entropy import calibrate, tables
from glc_jax.entropy.distributions import gaussian_bits
from glc_jax.entropy.exact import EntropyNetworks
from glc_jax.models import glc

CROP = 256  # pixels; larger pictures give their middle
SYNTHETIC_PICTURES = 4
DISCS = 300


class Cost(NamedTuple):
    """Bits of y over the calibration pictures: the float model's estimate, the exact networks'."""

    estimated: float
    exact: float

    @property
    def share(self) -> float:
        """How many more bits the exact networks take, as a share of the estimate."""
        return self.exact / self.estimated - 1


def dead_leaves(seed: int, size: int = CROP) -> np.ndarray:
    """A synthetic picture, uint8 [size, size, 3]: discs of all sizes that hide one another.

    Its edges and flat parts occur at every scale, as in photographs (Lee, Mumford and Huang 2001,
    "Occlusion models for natural images"). Each disc is shaded and has grain of its own.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    picture = np.full((size, size, 3), 0.5)
    # Radii have density r^-3, which makes the picture look the same at every scale.
    for radius in np.sort(0.02 / np.sqrt(random.uniform(0.0016, 1, DISCS)))[::-1]:
        y, x = random.uniform(-0.1, 1.1, 2)
        slope_y, slope_x = random.uniform(-1, 1, 2)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        shade = 0.3 * (slope_y * (rows - y) + slope_x * (columns - x)) / radius
        grain = random.uniform(0, 0.06) * random.standard_normal((size, size))
        colour = random.uniform(0, 1, 3)
        picture[inside] = (colour + (shade + grain)[..., None])[inside]
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def pictures(paths: Sequence[pathlib.Path]) -> list[np.ndarray]:
    """The middle, at most CROP x CROP, of each picture named; folders stand for theirs.

    Without any path: synthetic ones. Raises InputError.
    """
    if not paths:
        return [dead_leaves(seed) for seed in range(SYNTHETIC_PICTURES)]
    files = [file for path in paths for file in (images.find(path) if path.is_dir() else [path])]
    return [_middle(images.read(file)) for file in files]


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = ((side - CROP) // 2 if side > CROP else 0 for side in picture.shape[:2])
    return picture[top : top + CROP, left : left + CROP]


def exact_networks(
    config: Mapping[str, Any], leaves: Mapping[str, Any], samples: Sequence[np.ndarray]
) -> tuple[dict[str, Any], Cost]:
    """The "exact" part of a weights file and its cost.

    Only the parts of the model that a step needs are in memory at a time.

    Args:
      config: the arguments of `glc.build`.
      leaves: what becomes an array, by path in the weights file; parameters of all of GLC.
      samples: pictures, uint8 [height, width, 3]; each is used at the lowest and the highest rate.

    Raises:
      WeightsError: the networks' ranges do not fit 16 bits.
    """
    model = glc.build({**config, "code_predictor": None})
    latents = _encode(model, _load(leaves, "vqvae/encoder"), glc.size_multiple(config), samples)
    rates = (0, config["rate_points"] - 1)
    pairs = _analyse(model, _load(leaves, "g_a", "hyperprior"), latents, rates)
    variables = _load(leaves, "hyperprior", "context")
    exact = calibrate.quantise(variables["params"], pairs)
    estimated = _estimate(model, variables, pairs)
    del variables
    networks, table = EntropyNetworks(exact), tables.gaussian()
    coded = (step for pair in pairs for step in networks.encode(*pair).steps)
    return exact, Cost(estimated, sum(float(np.sum(table.bits(*step))) for step in coded))


def _load(leaves: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    """The parameters of these parts of the model, float32, as `apply` takes them."""
    prefixes = tuple(f"params/{part}/" for part in parts)
    names = [name for name in leaves if name.startswith(prefixes)]
    return weights.unflatten({n: jnp.asarray(np.asarray(leaves[n]), jnp.float32) for n in names})


def _encode(
    model: glc.GLC, variables: dict[str, Any], multiple: int, samples: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The latent [1, h, w, C] of each sample."""

    @jax.jit
    def encode(variables: Any, pixels: jax.Array) -> jax.Array:
        return model.apply(variables, (pixels.astype(jnp.float32) / 255 - 0.5) * 2, method="encode")

    latents = []
    for sample in samples:
        height, width = sample.shape[:2]
        padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
        latents.append(np.asarray(encode(variables, np.pad(sample, padding, mode="edge")[None])))
    return latents


def _analyse(
    model: glc.GLC, variables: dict[str, Any], latents: Sequence[np.ndarray], rates: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(z_indices [1, h / 4, w / 4], y [1, h, w, C]) of each latent at each rate."""

    @jax.jit
    def analyse(variables: Any, latent: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = model.apply(variables, latent, rate, method="analysis")
        z = model.apply(variables, y, method="hyper_analysis")
        return model.apply(variables, z, method="quantize_z").indices, y

    pairs = (analyse(variables, la, np.float32([rate])) for la in latents for rate in rates)
    return [(np.asarray(indices), np.asarray(y)) for indices, y in pairs]


def _estimate(
    model: glc.GLC, variables: dict[str, Any], pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> float:
    """The published estimate of the bits of all y."""

    @jax.jit
    def estimate(variables: Any, indices: jax.Array, y: jax.Array) -> jax.Array:
        z_hat = model.apply(variables, indices, method="embed_z")
        prior = model.apply(variables, z_hat, method="prior_params")
        coded = model.apply(variables, y, prior, method="code_y")
        return jnp.sum(gaussian_bits(coded.y_q, coded.scales))

    return sum(float(estimate(variables, *pair)) for pair in pairs)
