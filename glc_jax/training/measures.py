"""What is measured of held-out pictures, by name."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glc_jax.losses import spectrum, style
from glc_jax.metrics.dists import dists
from glc_jax.metrics.features import vgg16
from glc_jax.metrics.lpips import lpips
from glc_jax.metrics.psnr import psnr
from glc_jax.models.pixels import to_model_range


class Measure(NamedTuple):
    """(picture, original, networks) -> float32 [B], of float32 and uint8 [B, H, W, 3], 0..255.

    networks: names of the frozen networks that it looks through. smallest: side of the smallest
    pictures that it takes. against: what stands for the original, of what `Stage.beside` names.
    """

    function: Callable[[jax.Array, jax.Array, Mapping[str, Any]], jax.Array]
    networks: tuple[str, ...] = ()
    less_is_better: bool = True
    smallest: int = 1
    against: str = ""


def _lpips(network: str) -> Measure:
    def measure(picture: jax.Array, original: jax.Array, networks: Mapping[str, Any]) -> jax.Array:
        return lpips(networks[network], to_model_range(picture), to_model_range(original))

    return Measure(measure, (network,))


def _vgg(distance: Callable[..., jax.Array], against: str = "") -> Measure:
    def measure(picture: jax.Array, original: jax.Array, networks: Mapping[str, Any]) -> jax.Array:
        network = networks["lpips_vgg"]
        return distance(network, to_model_range(picture), to_model_range(original))

    return Measure(measure, ("lpips_vgg",), smallest=vgg16.MIN_SIZE, against=against)


def _spectral_excess(picture: jax.Array, original: jax.Array, networks: Any) -> jax.Array:
    return spectrum.spectral_excess(to_model_range(picture), to_model_range(original))


def measures(lpips_network: str) -> dict[str, Measure]:
    """All of them; "lpips" looks through the config's `lpips_network`."""
    return {**MEASURES, "lpips": _lpips(f"lpips_{lpips_network}")}


MEASURES: dict[str, Measure] = {
    "psnr": Measure(lambda picture, original, _: psnr(picture, original), less_is_better=False),
    "lpips": _lpips("lpips_alex"),
    "lpips_vgg": _lpips("lpips_vgg"),
    "dists": Measure(
        lambda picture, original, networks: dists(
            networks["dists"], picture / 255, original / jnp.float32(255)
        ),
        ("dists",),
    ),
    "spectral_excess": Measure(_spectral_excess, smallest=spectrum.SMALLEST),
    "style": _vgg(style.style, "style"),
    "content": _vgg(style.content),
}
