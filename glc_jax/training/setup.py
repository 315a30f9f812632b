"""From a config to what a run needs, with every mistake named before anything is compiled."""

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import weights
from glc_jax.data.pipeline import Batches, training_batches
from glc_jax.data.sources import CachedSource, FolderSource, Source, TFDSSource
from glc_jax.entropy import quantize
from glc_jax.errors import ConfigError
from glc_jax.losses import spectrum
from glc_jax.metrics import dists, lpips_weights
from glc_jax.models import glc
from glc_jax.training import checkpoints, linear_start
from glc_jax.training.optimiser import optimiser
from glc_jax.training.parameters import select
from glc_jax.training.stages import STAGES, codebooks
from glc_jax.training.state import DiscriminatorState, TrainState, create
from glc_jax.training.step import LAST_LAYER, discriminator

logger = logging.getLogger(__name__)

Config = Mapping[str, Any]


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as what JSON gives back: tuples are lists."""
    return json.loads(json.dumps(config))


def check_config(config: Config) -> None:
    """Raises `ConfigError` for what contradicts itself within the config."""
    if config["stage"] not in STAGES:
        raise ConfigError(f"There is no stage {config['stage']}: 1, 2 or 3.")
    multiple = glc.size_multiple(config["model"])
    for name, crop in (
        ("data.crop", config["data"]["crop"]),
        ("eval.crop", config["eval"]["crop"]),
    ):
        if crop <= 0 or crop % multiple:
            raise ConfigError(f"{name} is {crop}; it must be a multiple of {multiple}.")
    if config["steps"] < 1 or config["batch"] < 1 or config["accumulate"] < 1:
        raise ConfigError("steps, batch and accumulate must be at least 1.")
    points = config["model"]["rate_points"]
    if config["stage"] > 1:
        if config["batch"] % points and points % config["batch"]:
            raise ConfigError(
                f"Batches of {config['batch']} do not hold the {points} rate points equally often."
            )
        if len(config["lambdas"]) != points:
            raise ConfigError(f"lambdas has {len(config['lambdas'])} values for {points} rates.")
        quantize.from_config(config["quantizer"])
        _check_code_prediction(config)
    if config["linear_start_batches"] and not config["init_from"]:
        linear_start.check(config["model"])
    if config["adversarial"]["weight"] and config["stage"] == 2:
        raise ConfigError("Stage 2 has no picture to show a discriminator: adversarial.weight=0.")
    if config["dtype"] not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype is {config['dtype']!r}; it must be float32 or bfloat16.")
    if config["losses"]["dists"] and config["dists_window"] < 16:
        raise ConfigError(f"dists_window is {config['dists_window']}; it must be at least 16.")
    if config["losses"]["spectral_excess"] and config["data"]["crop"] < spectrum.SMALLEST:
        raise ConfigError(
            f"data.crop is {config['data']['crop']}; the spectral loss takes at least "
            f"{spectrum.SMALLEST}."
        )
    part, group = config["batch"] // config["accumulate"], config["dists_group"]
    if config["losses"]["dists"] and (group < 1 or part % group):
        raise ConfigError(
            f"dists_group is {group}, which does not divide the {part} crops of a pass."
        )
    best = config["checkpoint"]["best"]
    if best.split("/")[0] not in ("lpips", "dists", "bpp"):
        raise ConfigError(
            f"checkpoint.best is {best!r}; it must be lpips, dists or bpp, of which less is "
            "better, or one of their parts such as lpips/rate_0."
        )
    if best.startswith("dists") and not config["losses"]["dists"]:
        raise ConfigError("checkpoint.best is dists, which is only measured where it is a loss.")
    optimiser(config["optimizer"], config["steps"])


def _check_code_prediction(config: Config) -> None:
    losses, predictor = config["losses"], config["model"]["code_predictor"]
    if not (losses["code_prediction"] or losses["pixel_code_prediction"]):
        return
    if not predictor:
        raise ConfigError("The model has no code predictor: losses.code_prediction must be 0.")
    positions = (config["data"]["crop"] // glc.downsampling(config["model"])) ** 2
    if positions != predictor["positions"]:
        raise ConfigError(
            f"A crop of {config['data']['crop']} has {positions} latent positions, but the code "
            f"predictor is for {predictor['positions']}."
        )


def build_model(config: Config) -> glc.GLC:
    """The model in the config's compute type; parameters are float32 in any case."""
    return glc.build(config["model"], jnp.dtype(config["dtype"]).type, config["remat"])


def abstract_parameters(config: Config) -> Any:
    """The model's parameter tree as shapes."""
    model, side = build_model(config), glc.initial_side(config["model"])
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    rate = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image, rate)["params"]


def initial_parameters(config: Config) -> Any:
    """Parameters from `init_from`, or random ones from the seed, with the linear start if asked.

    `init_from` is another run's folder, of which the averaged parameters are taken, or a weights
    file; parts that it does not have get random values. Raises `ConfigError` where its model is
    another.
    """
    if not config["init_from"]:
        params = random_parameters(config)
        if config["linear_start_batches"]:
            batches = open_batches(config, whole=True)
            drawn = [batches[i]["image"] for i in range(config["linear_start_batches"])]
            vqvae = linear_start.linear_start(
                config["model"], params["vqvae"], np.concatenate(drawn), config["seed"]
            )
            params = {**params, "vqvae": jax.tree.map(jnp.asarray, vqvae)}
        return params
    source = pathlib.Path(config["init_from"])
    if source.is_dir():
        other = checkpoints.read_config(source)
        if other is None:
            raise ConfigError(f"init_from: {source} holds no run.")
        given_model, given = other["model"], checkpoints.averaged_parameters(source)
    else:
        file = weights.load(source)
        given_model, given = file.config["model"], file.tree["params"]
    if plain(given_model) != plain(config["model"]):
        raise ConfigError(
            f"init_from: {source} is of another model: {differences(given_model, config['model'])}"
        )
    found = dict(weights.flatten(given))
    wanted = {path for path, _ in weights.flatten(abstract_parameters(config))}
    missing = wanted - found.keys()
    if missing:
        parts = sorted({path.split("/")[0] for path in missing})
        logger.warning("%s has no parameters for: %s", source, ", ".join(parts))
        found = {**dict(weights.flatten(random_parameters(config))), **found}
    return weights.unflatten({path: jnp.asarray(found[path], jnp.float32) for path in wanted})


def random_parameters(config: Config) -> Any:
    """The model's own initialisation, from the config's seed."""
    model, side = build_model(config), glc.initial_side(config["model"])
    key = jax.random.key(config["seed"])
    return jax.jit(model.init)(key, jnp.zeros((1, side, side, 3)), jnp.zeros((1,)))["params"]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The fields in which two configs differ, with both values."""
    a, b = (dict(weights.flatten(plain(config))) for config in (one, other))
    names = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return ", ".join(f"{name} is {a.get(name)} there and {b.get(name)} here" for name in names)


def check_resumable(config: Config, workdir: pathlib.Path) -> None:
    """Raises `ConfigError` when `workdir` holds a run of another model or stage."""
    other = checkpoints.read_config(workdir)
    if other is None:
        return
    for section in ("stage", "model", "trainable"):
        if plain({section: other[section]}) != plain({section: config[section]}):
            difference = differences({section: other[section]}, {section: config[section]})
            raise ConfigError(f"{workdir} holds a run of another config: {difference}.")


def open_source(fields: Mapping[str, Any]) -> Source:
    """The pictures that a `data` or `eval` section names: a folder, or else a TFDS data set."""
    if fields["folder"]:
        source: Source = FolderSource(fields["folder"])
    elif fields["tfds"]["name"]:
        tfds = fields["tfds"]
        source = TFDSSource(tfds["name"], tfds["split"], tfds["key"], tfds["data_dir"] or None)
    else:
        raise ConfigError("No data: set config.data.folder or config.data.tfds.name.")
    return source


def open_batches(config: Config, whole: bool = False) -> Batches:
    """This host's training batches; with `whole` its part is all of them."""
    data = config["data"]
    source = open_source(data)
    if data["cache_gb"]:
        source = CachedSource(source, int(data["cache_gb"] * 2**30))
    return training_batches(
        source,
        batch=config["batch"],
        crop=data["crop"],
        scale=tuple(data["scale"]),
        flip=data["flip"],
        seed=config["seed"],
        threads=data["threads"],
        host=0 if whole else jax.process_index(),
        hosts=1 if whole else jax.process_count(),
    )


def load_perceptual(config: Config) -> dict[str, Any]:
    """The weights of the perceptual losses and of the evaluation's metrics, by name.

    "lpips" where it is a loss or pictures are held out, "dists" where it is a loss. Raises
    `WeightsError` where they are not installed.
    """
    losses, held_out = config["losses"], config["eval"]
    networks: dict[str, Any] = {}
    if losses["lpips"] or held_out["folder"] or held_out["tfds"]["name"]:
        networks["lpips"] = lpips_weights.load(config["lpips_network"])
    if losses["dists"]:
        networks["dists"] = dists.load()
    return networks


def initial_state(config: Config, params: Any, perceptual: Any) -> TrainState:
    """The state before the first step. Works on shapes too, under `jax.eval_shape`."""
    key = jax.random.fold_in(jax.random.key(config["seed"]), 1)
    critic, critic_state = discriminator(config, jnp.dtype(config["dtype"]).type), None
    if critic is not None:
        fields, crop = config["adversarial"], config["data"]["crop"]
        variables = critic.init(key, jnp.zeros((1, crop, crop, 3)), True)
        flat = select(variables["params"], "")
        critic_optimiser = optimiser(fields["optimizer"], config["steps"])
        critic_state = DiscriminatorState(
            flat, variables["batch_stats"], critic_optimiser.init(flat)
        )
    return create(
        params,
        config["trainable"],
        codebooks(config["stage"]),
        optimiser(config["optimizer"], config["steps"]),
        perceptual,
        critic_state,
    )


def check_trainable(config: Config, params: Any) -> None:
    """Raises `ConfigError` for a `trainable` that matches nothing or lacks what a loss needs."""
    trained = select(params, config["trainable"])
    fields = config["adversarial"]
    if fields["weight"] and fields["adaptive"] and LAST_LAYER not in trained:
        raise ConfigError(
            f"The adaptive adversarial weight needs {LAST_LAYER} among the trained parameters; "
            "widen `trainable` or set adversarial.adaptive=False."
        )
