"""Which checkpoint a state dict is, and its tensors as parameters of ours."""

import importlib
import math
import os
import pathlib
import runpy
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import weights
from glc_jax.errors import ConfigError, WeightsError
from glc_jax.metrics import inception_weights
from glc_jax.metrics.features import alexnet, inception, vgg16
from glc_jax.models import glc, sizes
from glc_jax.models.discriminator import PatchDiscriminator

from . import feature_networks, official
from .checkpoint import State, match

# Beside this package: in a clone at the top, installed within glc_jax.
CONFIGS = f"{__package__.rpartition('conversion')[0]}configs"

Config = dict[str, Any]  # {"name": str, "model": arguments of glc.build}

DISCRIMINATOR_CROP = 256
# BatchNorm counts its batches, which matters only for momentum None.
BATCH_COUNTER = "num_batches_tracked"


class Converted(NamedTuple):
    """The parameters of ours in one state dict.

    what: a phrase for the user. config: the model that they belong to. leaves: arrays, or views of
    the checkpoint's, by path in the weights file. aside: tensors that this project has no place
    for.
    """

    what: str
    config: Config
    leaves: dict[str, np.ndarray]
    aside: list[str]


def load_config(path: str | os.PathLike) -> Config:
    """The model that a file like configs/natural.py describes. Raises ConfigError."""
    path = pathlib.Path(path)
    try:
        model = runpy.run_path(str(path))["model_config"]()
    except (OSError, KeyError, SyntaxError) as error:
        raise ConfigError(f"{path} is not a config with a function model_config.") from error
    return {"name": path.stem, "model": model.to_dict()}


def released_config(name: str) -> Any:
    """The model section of the config of a released model: "natural" or "face"."""
    return importlib.import_module(f"{CONFIGS}.{name}").model_config()


def known_config(state: State, encoder: str) -> Config:
    """The released model whose VQ-VAE has as many base channels; `encoder` begins its names."""
    first = state.get(f"{encoder}blocks.0.weight")
    configs = {name: released_config(name) for name in ("natural", "face")}
    for name, model in configs.items():
        if first is not None and len(first) == model.vqvae.base_channels:
            return {"name": name, "model": model.to_dict()}
    return {"name": "natural", "model": configs["natural"].to_dict()}


def model_shapes(model: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters of the model, by "/"-joined path, without "params/"."""
    net = glc.build(model)
    size = sizes.size_multiple(model)
    if model["code_predictor"]:
        size = math.isqrt(model["code_predictor"]["positions"]) * sizes.downsampling(model)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    rate = jax.ShapeDtypeStruct((1,), jnp.float32)
    return _shapes(jax.eval_shape(net.init, jax.random.key(0), image, rate)["params"])


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in weights.flatten(tree)}


def glc_entries(model: dict[str, Any]) -> list[official.Entry]:
    """The table of the whole of GLC, for a model config."""
    return official.entries(official.glc(model), model_shapes(model), "params/")


def vqvae_entries(model: dict[str, Any]) -> list[official.Entry]:
    """The table of its VQ-VAE alone, names without "vqgan."."""
    prefix = "vqvae/"
    shapes = {
        path.removeprefix(prefix): shape
        for path, shape in model_shapes(model).items()
        if path.startswith(prefix)
    }
    return official.entries(official.vqvae(model["vqvae"]), shapes, f"params/{prefix}")


def discriminator_entries() -> list[official.Entry]:
    """The table of the discriminator."""
    net = PatchDiscriminator()
    image = jax.ShapeDtypeStruct((1, DISCRIMINATOR_CROP, DISCRIMINATOR_CROP, 3), jnp.float32)
    shapes = _shapes(jax.eval_shape(net.init, jax.random.key(0), image))
    return official.entries(official.discriminator(net.layers), shapes, "discriminator/")


def _convert(
    state: State,
    what: str,
    config: Config,
    entries: list[official.Entry],
    unused: Callable[[str], bool] = lambda name: False,
) -> Converted:
    aside = [name for name in state if unused(name)]
    needed = {name: array for name, array in state.items() if name not in aside}
    return Converted(what, config, match(needed, entries), aside)


def convert_glc(state: State, config: Config | None) -> Converted:
    """A checkpoint of the whole of GLC."""
    config = config or known_config(state, "vqgan.encoder.")
    return _convert(state, "the whole of GLC", config, glc_entries(config["model"]))


def convert_vqvae(state: State, config: Config | None) -> Converted:
    """A stage-I VQ-VAE, or CodeFormer's."""
    config = config or known_config(state, "encoder.")
    return _convert(state, "a VQ-VAE of stage I", config, vqvae_entries(config["model"]))


def _network(name: str) -> Config:
    return {"name": name, "model": {"network": name}}


def convert_discriminator(state: State, config: Config | None) -> Converted:
    """A discriminator's checkpoint."""
    return _convert(
        state,
        "a discriminator",
        config or _network("discriminator"),
        discriminator_entries(),
        lambda name: name.endswith(BATCH_COUNTER),
    )


def convert_classifier(state: State, config: Config | None) -> Converted:
    """torchvision's AlexNet or VGG16."""
    del config
    first = state.get("features.0.weight")
    if first is not None and first.shape[-1] == feature_networks.ALEXNET_KERNELS[0]:
        name, (rows, shapes) = "alexnet", feature_networks.alexnet_table()
    else:
        name, (rows, shapes) = "vgg16", feature_networks.vgg16_table()
    return _convert(
        state,
        f"the convolutions of {name}",
        _network(name),
        official.entries(rows, shapes),
        lambda name: name.startswith("classifier."),
    )


def convert_lpips_heads(state: State, config: Config | None) -> Converted:
    """LPIPS's linear heads, for AlexNet or VGG16."""
    del config
    first = state.get("lin1.model.1.weight")
    is_alexnet = first is not None and first.shape[1:2] == (alexnet.CHANNELS[1],)
    name, widths = ("alexnet", alexnet.CHANNELS) if is_alexnet else ("vgg16", vgg16.CHANNELS)
    rows, shapes = feature_networks.lpips_table(widths)
    return _convert(
        state,
        f"the LPIPS heads for {name}",
        _network(f"lpips_{name}"),
        official.entries(rows, shapes),
    )


def convert_inception(state: State, config: Config | None) -> Converted:
    """The Inception v3 of the FID literature, batch normalisation folded into its kernels."""
    del config
    tree = inception_weights.from_state(state, "the checkpoint")
    layers = tuple(f"{layer}." for layer, *_ in inception.CONVOLUTIONS)
    aside = [n for n in state if not n.startswith(layers) or n.endswith(BATCH_COUNTER)]
    leaves = {f"features/{path}": array for path, array in weights.flatten(tree)}
    return Converted("the Inception v3 of FID", _network("inception"), leaves, aside)


# Beginnings of names, and what has them.
KINDS: tuple[tuple[tuple[str, ...], Callable[[State, Config | None], Converted]], ...] = (
    (("vqgan.", "q_enc", "hyper_enc.", "y_spatial_prior."), convert_glc),
    (("encoder.blocks.", "generator.blocks."), convert_vqvae),
    (("main.",), convert_discriminator),
    (("lin0.",), convert_lpips_heads),
    (("Conv2d_1a_3x3.",), convert_inception),
    (("features.",), convert_classifier),
)


def convert_state(state: State, config: Config | None = None) -> Converted:
    """Recognise a state dict by its names and convert it.

    `config` is the model where it is not one of the released ones. Raises WeightsError where the
    names are of no known checkpoint, or where tensors are missing, unknown or misshaped.
    """
    for beginnings, convert in KINDS:
        if any(name.startswith(beginnings) for name in state):
            return convert(state, config)
    names = ", ".join(list(state)[:5])
    raise WeightsError(
        f"its {len(state)} tensors ({names}, ...) are none of: GLC, its VQ-VAE, CodeFormer's "
        "VQGAN, a PatchGAN discriminator, AlexNet, VGG16, LPIPS heads, FID's Inception v3."
    )
