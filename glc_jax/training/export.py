"""From a training run to a weights file: averaged parameters, exact networks, prior of z."""

import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import companions, weights
from glc_jax.data.pipeline import Batches
from glc_jax.entropy import export as entropy_export
from glc_jax.errors import ConfigError
from glc_jax.models import choices, glc, sizes
from glc_jax.models.pixels import to_model_range
from glc_jax.models.transforms import interpolate_rate_scale
from glc_jax.preview import Fit
from glc_jax.training import checkpoints
from glc_jax.training.config import Config, differences, plain

WEIGHTS_BATCH = 8
"""Pictures a batch of calibration, where a weights file is exported anew."""


def mean_of(
    sources: Sequence[str | os.PathLike], step: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last source's config and the mean of the sources' parameters: (config, params).

    A source is a run's folder, of which the averaged parameters are taken, or a weights file. A
    run that was begun from another one is usually in the same valley, and what lies between them
    is often better than either (Wortsman et al., "Model soups", ICML 2022, arXiv 2203.05482).

    Args:
      sources: folders or addresses of runs, and weights files.
      step: the checkpoint of each run; None: the newest.

    Raises:
      ConfigError: a folder holds no run, or the sources are of different models.
      WeightsError: a weights file cannot be used.
    """
    configs: list[dict[str, Any]] = []
    trees = []
    for source in sources:
        config, params = _source(source, step)
        if configs and config["model"] != configs[0]["model"]:
            difference = differences(config["model"], configs[0]["model"])
            raise ConfigError(f"{source} is of another model than {sources[0]}: {difference}.")
        configs.append(config)
        trees.append(params)
    return configs[-1], jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def _source(source: str | os.PathLike, step: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    if os.fspath(source).endswith(weights.SUFFIX):
        loaded = weights.load(source)
        model = choices.canonical(loaded.config["model"])
        described = {**loaded.config, "model": model}
        config = plain(Config(**described, batch=WEIGHTS_BATCH))
        config["stage"] = loaded.provenance.get("stage", config["stage"])
        as_float = jax.tree.map(lambda leaf: leaf.astype(np.float32), loaded.tree["params"])
        return config, as_float
    found = checkpoints.read_config(source)
    if found is None:
        raise ConfigError(f"{source} holds no run.")
    return plain(found), checkpoints.averaged_parameters(source, step)


def at_rates(
    config: Mapping[str, Any], params: Mapping[str, Any], rates: Sequence[float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model whose rate points 0, 1, ... are the given rates of another: (config, params).

    Between trained points the model interpolates, so any rate can be made a point, for instance
    where a size is wanted that training did not meet. Raises `ConfigError` unless the rates
    increase within those of the model.
    """
    highest = config["model"]["rate_points"] - 1
    inside = all(0 <= rate <= highest for rate in rates)
    if not inside or not rates or any(a >= b for a, b in itertools.pairwise(rates)):
        named = " ".join(f"{rate:g}" for rate in rates)
        raise ConfigError(f"The rates must increase within 0 .. {highest}, not be {named!r}.")
    params = dict(params)
    for part in ("g_a", "g_s"):
        table = jnp.asarray(params[part]["rate_scale"])
        placed = interpolate_rate_scale(table, jnp.asarray(rates, jnp.float32))
        params[part] = {**params[part], "rate_scale": placed}
    return {**config, "model": {**config["model"], "rate_points": len(rates)}}, params


def calibration_targets(
    model: glc.GLC, params: Any, batches: Batches, count: int
) -> Iterator[dict[str, np.ndarray]]:
    """What the entropy model quantises, by latent, of `count` batches, the rates in turn."""

    @jax.jit
    def analyse(params: Any, images: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        variables = {"params": params}
        latent = model.apply(variables, to_model_range(images), method="encode")
        return model.apply(variables, latent, rate, method="targets")

    points = params["g_a"]["rate_scale"].shape[0]
    for number in range(count):
        images = batches[number]["image"]
        rate = (np.arange(len(images)) + number) % points
        yield jax.tree.map(np.asarray, analyse(params, images, rate.astype(np.float32)))


def preview_map(
    config: Mapping[str, Any], params: Any, batches: Batches, count: int
) -> dict[str, np.ndarray]:
    """The map of `glc_jax.preview`, fitted to `count` of the batches, the rates in turn."""
    model, described = glc.build(config["model"]), config["model"]

    @jax.jit
    def coded(params: Any, images: jax.Array, rate: jax.Array) -> jax.Array:
        variables = {"params": params}
        latent = model.apply(variables, to_model_range(images), method="encode")
        return model.apply(variables, latent, rate, method="code").coded["y"].values

    points = described["rate_points"]
    fit = Fit(points, described["latent_channels"], sizes.downsampling(described))
    for number in range(count):
        images = batches[number]["image"]
        rates = (np.arange(len(images)) + number) % points
        fit.add(np.asarray(coded(params, images, rates.astype(np.float32))), rates, images)
    return fit.solve()


def weights_tree(
    config: Mapping[str, Any],
    params: Any,
    batches: Batches,
    count: int,
    dtype: str,
    training_parts: bool,
    kernel_bits: int | None,
) -> dict[str, Any]:
    """What a weights file holds: "params" in `dtype`, "entropy" and "preview".

    The exact entropy model is calibrated, and z's prior counted, on `count` of the batches, with
    the parameters as they will be stored. Without `training_parts` the code predictors, which no
    file needs, are left out. kernel_bits: as that of `entropy.export.export`.
    """
    if not training_parts:
        params = {n: part for n, part in params.items() if n not in weights.TRAINING_PARTS}
    stored = jax.tree.map(lambda leaf: np.asarray(jnp.asarray(leaf, dtype)), params)
    used = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stored)
    model = glc.build(config["model"])
    targets = list(calibration_targets(model, used, batches, count))
    entropy = entropy_export.export(
        model.entropy_model(), model.run, {"params": used}, targets, kernel_bits
    )
    preview = preview_map(config, used, batches, count)
    return {"params": stored, "entropy": entropy, "preview": preview}


def base_of(config: Mapping[str, Any]) -> str:
    """The weights file that a run began with, through the runs that it was begun from.

    Raises `ConfigError` where there was none.
    """
    source, seen = config["init_from"], set()
    while source and source not in seen:
        seen.add(source)
        before = checkpoints.read_config(source)
        if before is None:
            return source
        source = before.init_from
    raise ConfigError("The run was not begun from a weights file; name the one it fits by --base.")


def export_part(
    config: Mapping[str, Any],
    params: Mapping[str, Any],
    part: str,
    base_path: str | os.PathLike,
    path: pathlib.Path,
    *,
    dtype: str,
    provenance: Mapping[str, Any],
    base_share: float = 0.0,
) -> weights.Description:
    """Write a stage's own part of a run as a companion of the weights that the run began with.

    base_share: of a restorer, how much of each parameter is the base's own: 0 up to 1. Between the
    two, fewer guesses and less repair.

    Raises `ConfigError` where the run's model has other values than the weights at `base_path`, or
    a share makes no sense, `OutputError` or `WeightsError`.
    """
    if not 0 <= base_share < 1 or (base_share and part != companions.RESTORER):
        raise ConfigError(f"A share of {base_share:g}: of a restorer alone, from 0 to less than 1.")
    base = weights.load(weights.resolve(base_path))
    companions.require_model(base)
    frozen = dict(weights.flatten(params))
    for name, leaf in weights.flatten(base.tree["params"]):
        if name.startswith(weights.TRAINING_PARTS):
            continue
        if name not in frozen or not np.array_equal(leaf.astype(np.float32), frozen[name]):
            raise ConfigError(
                f"The run did not begin with the weights {os.fspath(base_path)}: {name} differs."
            )
    own = params[part]
    if base_share:
        counterpart = companions.encoder_side(base.tree["params"])
        own = jax.tree.map(
            lambda trained, of_base: (1 - base_share) * trained + base_share * of_base,
            *(own, jax.tree.map(lambda leaf: leaf.astype(np.float32), counterpart)),
        )
        provenance = {**provenance, "base_share": base_share}
    stored = jax.tree.map(lambda leaf: np.asarray(jnp.asarray(leaf, dtype)), own)
    name = f"{base.config['name']}-{config['stage']}"
    return companions.save(path, part, name, stored, base, provenance)


def export(
    config: Mapping[str, Any],
    params: Any,
    batches: Batches,
    path: pathlib.Path,
    *,
    count: int,
    dtype: str,
    training_parts: bool,
    provenance: Mapping[str, Any],
    kernel_bits: int | None = None,
) -> weights.Description:
    """Write the weights file; see `weights_tree`. Raises `OutputError` or `WeightsError`."""
    tree = weights_tree(config, params, batches, count, dtype, training_parts, kernel_bits)
    described = {"name": config["name"], "model": config["model"]}
    return weights.save(path, tree, described, provenance)
