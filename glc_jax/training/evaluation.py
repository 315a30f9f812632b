"""Held-out evaluation during training: what centre crops look like, and estimated bpp."""

import itertools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.data.augment import centre_crop
from glc_jax.data.pipeline import Beside
from glc_jax.data.sources import Source
from glc_jax.errors import ConfigError, InputError
from glc_jax.models.glc import GLC
from glc_jax.models.pixels import to_model_range
from glc_jax.training.measures import Measure

# By the name of the way through the model: x_hat float [B, H, W, 3], not clamped, and bpp [B] or
# None.
Reconstructions = dict[str, tuple[jax.Array, jax.Array | None]]


def held_out_batches(
    source: Source,
    *,
    batch: int,
    crop: int,
    shard: tuple[int, int] = (0, 1),
    beside: Mapping[str, Beside] = types.MappingProxyType({}),
) -> list[dict[str, np.ndarray]]:
    """The centre crops of every usable picture, as part `shard[0]` of `shard[1]` of whole batches.

    A batch is {"image": uint8 [b, crop, crop, 3], "weight": float32 [b]} and what `beside` makes
    of each crop, the same every time; the last one is filled up with pictures of weight 0. Raises
    `ConfigError` when no picture is as large as the crop.
    """
    crops = list(_crops(source, crop))
    if not crops:
        raise ConfigError(f"No held-out picture is as large as the evaluation crop of {crop}.")
    local = batch // shard[1]
    batches = []
    for start in range(0, len(crops), batch):
        mine = range(start + shard[0] * local, start + (shard[0] + 1) * local)
        numbers = [i if i < len(crops) else 0 for i in mine]
        weights = np.asarray([i < len(crops) for i in mine], np.float32)
        more = {
            name: np.stack([make(crops[i], np.random.default_rng(i)) for i in numbers])
            for name, make in beside.items()
        }
        images = np.stack([crops[i] for i in numbers])
        batches.append({"image": images, "weight": weights, **more})
    return batches


def first_crops(source: Source, crop: int, count: int) -> np.ndarray:
    """The centre crops of the first `count` usable pictures: uint8 [n, crop, crop, 3].

    Raises `ConfigError` when no picture is as large as the crop.
    """
    found = list(itertools.islice(_crops(source, crop), count))
    if not found:
        raise ConfigError(f"No held-out picture is as large as the evaluation crop of {crop}.")
    return np.stack(found)


def _crops(source: Source, crop: int) -> Iterator[np.ndarray]:
    for index in range(len(source)):
        try:
            yield centre_crop(source[index], crop)
        except InputError:  # too small or broken
            continue


def make_eval_step(
    model: GLC,
    reconstruct: Callable[[GLC, Any, jax.Array, Mapping[str, jax.Array]], Reconstructions],
    measures: Mapping[str, Measure],
) -> Callable[..., Any]:
    """(params, batch, networks) -> (sums, pictures), where sums["weight"] is the pictures counted.

    `reconstruct` is the stage's. The names say what a picture went through: in stage I "codebook"
    and "latent" (not quantised), later "rate_0" and so on. sums: "MEASURE/NAME" and, where it is
    known, "bpp/NAME", summed over the pictures. pictures: NAME -> uint8 [B, H, W, 3].
    """

    def eval_step(params: Any, batch: Mapping[str, jax.Array], networks: Mapping[str, Any]):
        images, weight = batch["image"], batch["weight"]
        sums, pictures = {"weight": jnp.sum(weight)}, {}
        beside = {name: value for name, value in batch.items() if name not in ("image", "weight")}
        variables = {"params": params}
        for name, (x_hat, bpp) in reconstruct(model, variables, images, beside).items():
            x_hat = jnp.clip(x_hat.astype(jnp.float32), -1, 1)
            picture = jnp.round((x_hat + 1) * 127.5)
            values = {
                kind: measure.function(picture, beside.get(measure.against, images), networks)
                for kind, measure in measures.items()
            }
            if bpp is not None:
                values["bpp"] = bpp
            counted = weight > 0  # what fills up a batch may be infinite, too
            sums |= {
                f"{key}/{name}": jnp.sum(weight * jnp.where(counted, value, 0))
                for key, value in values.items()
            }
            pictures[name] = picture.astype(jnp.uint8)
        return sums, pictures

    return eval_step


def through_codebook(model: GLC, variables: Any, images: jax.Array) -> Reconstructions:
    """E and G, with the codebook in between and without it."""
    latent = model.apply(variables, to_model_range(images), method="encode")
    vq = model.apply(variables, latent.astype(jnp.float32), method="vector_quantize")
    return {
        "codebook": (model.apply(variables, vq.quantized, method="generate"), None),
        "latent": (model.apply(variables, latent, method="generate"), None),
    }


def through_rates(
    model: GLC, variables: Any, fields: Mapping[str, Any], images: jax.Array
) -> Reconstructions:
    """The whole model at each rate point, with estimated bpp; `fields` are the model's section."""
    latent = model.apply(variables, to_model_range(images), method="encode")
    pixels = images.shape[1] * images.shape[2]
    out = {}
    for point in range(fields["rate_points"]):
        rate = jnp.full(images.shape[0], point, jnp.float32)
        code = model.apply(variables, latent, rate, estimate=True, method="code")
        x_hat = model.apply(variables, code.latent_hat, method="generate")
        out[f"rate_{point}"] = (x_hat, code.bits() / pixels)
    return out


def averages(sums: Mapping[str, float]) -> dict[str, float]:
    """Summed sums of `make_eval_step` -> means, and for each measure its mean over all names."""
    means = {key: value / sums["weight"] for key, value in sums.items() if key != "weight"}
    for kind in {key.split("/")[0]: None for key in means}:
        values = [value for key, value in means.items() if key.startswith(f"{kind}/")]
        means[kind] = sum(values) / len(values)
    return means
