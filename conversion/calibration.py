"""The integer entropy networks of a converted checkpoint, and what they cost in bits.

Converting chooses the scales of the integer networks from the ranges that their float originals
reach on a few pictures. Pictures unlike these stay decodable, with more bits.
"""

import gc
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import images, memory, weights
from glc_jax.entropy import export
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.models import glc, sizes
from glc_jax.models.pixels import to_model_range

CROP = 256  # pixels; larger pictures give their middle
SYNTHETIC_PICTURES = 4
DISCS = 300

LARGE = 2**24
"""Values of a model from which on each step of calibrating it lets go of all that it took."""


class Cost(NamedTuple):
    """Bits of y over the calibration pictures: the float model's estimate, the exact networks'.

    kernel_bits: of the networks' kernels.
    """

    estimated: float
    exact: float
    kernel_bits: int

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


def exact_model(
    config: Mapping[str, Any], leaves: Mapping[str, Any], samples: Sequence[np.ndarray]
) -> tuple[dict[str, Any], Cost]:
    """The "entropy" part of a weights file and its cost.

    Only the parts of the model and the programs that a step needs are in memory at a time. The
    prior of z stays uniform: so few pictures say nothing about its indices.

    Args:
      config: the arguments of `glc.build`.
      leaves: what becomes an array, by path in the weights file; parameters of all of GLC.
      samples: pictures, uint8 [height, width, 3]; each is used at the lowest and the highest rate.

    Raises:
      WeightsError: the networks' ranges do not fit their integers.
    """
    uniform = {**config.get("entropy", {}), "z_prior": "uniform"}
    model = glc.build({**config, "code_predictor": None, "entropy": uniform})
    latents = _encode(model, _load(leaves, "vqvae/encoder"), sizes.size_multiple(config), samples)
    _let_go(leaves)
    rates = (0, config["rate_points"] - 1)
    targets = _targets(model, _load(leaves, "g_a", "hyperprior"), latents, rates)
    _let_go(leaves)
    for bits in export.KERNEL_BITS:  # as `export` would choose, with less in memory
        variables = _load(leaves, "hyperprior", "context")
        tree = export.export(model.entropy_model(), model.run, variables, targets, bits)
        _let_go(leaves)
        coded, estimated = _counted(model, variables, targets)
        del variables
        _let_go(leaves)
        exact = ExactModel(tree)
        spent = [exact.bits(exact.encode(one)) for one in coded]
        of_y = [group.name for group in model.entropy_model().of("y")]
        cost = Cost(estimated, sum(one[name] for one in spent for name in of_y), bits)
        if cost.share <= export.DEAR:
            break
    return tree, cost


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
        return model.apply(variables, to_model_range(pixels), method="encode")

    latents = []
    for sample in samples:
        height, width = sample.shape[:2]
        padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
        latents.append(np.asarray(encode(variables, np.pad(sample, padding, mode="edge")[None])))
    return latents


def _targets(
    model: glc.GLC, variables: dict[str, Any], latents: Sequence[np.ndarray], rates: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """What the entropy model quantises of each latent at each rate."""

    @jax.jit
    def targets(variables: Any, latent: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        return model.apply(variables, latent, rate, method="targets")

    found = [
        jax.device_get(targets(variables, latent, np.float32([rate])))
        for latent in latents
        for rate in rates
    ]
    return found


def _counted(
    model: glc.GLC, variables: dict[str, Any], targets: Sequence[dict[str, np.ndarray]]
) -> tuple[list[dict[str, np.ndarray]], float]:
    """What the exact model codes of the targets, and the published estimate of the bits of y."""
    counted = jax.jit(lambda variables, one: model.apply(variables, one, method="counted"))
    of_y = [group.name for group in model.entropy_model().of("y")]
    coded, estimated = [], 0.0
    for one in targets:
        to_code, bits = jax.device_get(counted(variables, one))
        coded.append(to_code)
        estimated += sum(float(bits[name].sum()) for name in of_y)
    return coded, estimated


def _let_go(leaves: Mapping[str, Any]) -> None:
    """Gives back what the last step took: its programs, and what they were made from.

    Not of a small model, which takes little, and is often one of several in a process.
    """
    if sum(math.prod(leaf.shape) for leaf in leaves.values()) < LARGE:
        return
    jax.clear_caches()
    gc.collect()
    memory.give_back()
