"""Held-out evaluation during training: PSNR, LPIPS, DISTS and estimated bpp of centre crops."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.data.augment import centre_crop
from glc_jax.data.sources import Source
from glc_jax.errors import ConfigError, InputError
from glc_jax.metrics.dists import dists
from glc_jax.metrics.lpips import lpips
from glc_jax.metrics.psnr import psnr
from glc_jax.models.glc import GLC
from glc_jax.training.step import to_float

Metrics = dict[str, float]


def held_out_batches(
    source: Source, *, batch: int, crop: int, host: int = 0, hosts: int = 1
) -> list[dict[str, np.ndarray]]:
    """The centre crops of every usable picture, as this host's parts of whole batches.

    A batch is {"image": uint8 [b, crop, crop, 3], "weight": float32 [b]}: the last one is filled
    up with pictures of weight 0. Raises `ConfigError` when no picture is as large as the crop.
    """
    crops = list(_crops(source, crop))
    if not crops:
        raise ConfigError(f"No held-out picture is as large as the evaluation crop of {crop}.")
    local = batch // hosts
    batches = []
    for start in range(0, len(crops), batch):
        mine = range(start + host * local, start + (host + 1) * local)
        images = [crops[i] if i < len(crops) else crops[0] for i in mine]
        weights = np.asarray([i < len(crops) for i in mine], np.float32)
        batches.append({"image": np.stack(images), "weight": weights})
    return batches


def _crops(source: Source, crop: int) -> Iterator[np.ndarray]:
    for index in range(len(source)):
        try:
            yield centre_crop(source[index], crop)
        except InputError:  # too small or broken
            continue


def make_eval_step(model: GLC, config: Mapping[str, Any]) -> Callable[..., Any]:
    """(params, batch, networks) -> (sums, pictures), where sums["weight"] is the pictures counted.

    The names say what the picture went through: in stage I "codebook" and "latent" (not
    quantised), later "rate_0" and so on. sums: "psnr/NAME", "bpp/NAME", "lpips/NAME" and
    "dists/NAME", the latter two where `networks` has their weights, summed over the pictures.
    pictures: NAME -> uint8 [B, H, W, 3].
    """
    reconstruct = _through_codebook if config["stage"] == 1 else _through_rates

    def eval_step(params: Any, batch: Mapping[str, jax.Array], networks: Mapping[str, Any]):
        images, weight = batch["image"], batch["weight"]
        sums, pictures = {"weight": jnp.sum(weight)}, {}
        for name, (x_hat, bpp) in reconstruct(model, {"params": params}, config, images).items():
            x_hat = jnp.clip(x_hat.astype(jnp.float32), -1, 1)
            picture = jnp.round((x_hat + 1) * 127.5)
            values = {"psnr": psnr(picture, images)}
            if bpp is not None:
                values["bpp"] = bpp
            if "lpips" in networks:
                values["lpips"] = lpips(networks["lpips"], to_float(picture), to_float(images))
            if "dists" in networks:
                values["dists"] = dists(networks["dists"], picture / 255, images / 255)
            sums |= {f"{key}/{name}": jnp.sum(weight * value) for key, value in values.items()}
            pictures[name] = picture.astype(jnp.uint8)
        return sums, pictures

    return eval_step


def _through_codebook(model: GLC, variables: Any, config: Any, images: jax.Array):
    latent = model.apply(variables, to_float(images), method="encode")
    vq = model.apply(variables, latent.astype(jnp.float32), method="vector_quantize")
    return {
        "codebook": (model.apply(variables, vq.quantized, method="generate"), None),
        "latent": (model.apply(variables, latent, method="generate"), None),
    }


def _through_rates(model: GLC, variables: Any, config: Any, images: jax.Array):
    latent = model.apply(variables, to_float(images), method="encode")
    pixels = images.shape[1] * images.shape[2]
    out = {}
    for point in range(config["model"]["rate_points"]):
        rate = jnp.full(images.shape[0], point, jnp.float32)
        code = model.apply(variables, latent, rate, estimate=True, method="code")
        x_hat = model.apply(variables, code.latent_hat, method="generate")
        out[f"rate_{point}"] = (x_hat, code.bits() / pixels)
    return out


def averages(sums: Mapping[str, float]) -> Metrics:
    """Summed sums of `make_eval_step` -> means, and for each metric its mean over all names."""
    means = {key: value / sums["weight"] for key, value in sums.items() if key != "weight"}
    for kind in ("psnr", "lpips", "dists", "bpp"):
        values = [value for key, value in means.items() if key.startswith(f"{kind}/")]
        if values:
            means[kind] = sum(values) / len(values)
    return means
