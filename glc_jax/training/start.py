"""The state that a run begins or goes on with, laid over the mesh."""

import logging
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from glc_jax import companions, weights
from glc_jax.data import address
from glc_jax.errors import ConfigError
from glc_jax.models import choices
from glc_jax.training import checkpoints, inputs, linear_start, sharding
from glc_jax.training.config import differences, plain
from glc_jax.training.parts import Parts
from glc_jax.training.state import TrainState

logger = logging.getLogger(__name__)

# What makes another state altogether; what else may change between two parts of a run.
IDENTITY = ("stage", "model")


def check_resumable(parts: Parts, workdir: epath.Path) -> None:
    """Raises `ConfigError` when `workdir` holds a run of another model or stage."""
    other = checkpoints.read_config(workdir)
    if other is None:
        return
    one, here = ({name: plain(vars(c)[name]) for name in IDENTITY} for c in (other, parts.config))
    if one != here:
        raise ConfigError(f"{workdir} holds a run of another config: {differences(one, here)}.")


def starting_state(
    parts: Parts, mesh: jax.sharding.Mesh, kept: checkpoints.Checkpoints
) -> TrainState:
    """The newest checkpoint's state, or the one before the first step.

    Where the config has changed so that the state has other parts (a critic, another `trainable`),
    what both have is resumed, what is new begins anew, and a warning says which.
    """
    placed = sharding.place_shapes(parts.abstract_state(), mesh, parts.config.mesh.shard_from)
    state = kept.restore(placed, lambda params: state_of(parts, placed, params))
    if state is not None:
        logger.info("Resumed at step %d", int(state.step))
        return state
    return first_state(parts, placed)


def first_state(parts: Parts, placed: TrainState) -> TrainState:
    """The state before the first step, in the shapes and shardings of `placed`.

    Nothing is ever whole on one device that `placed` cuts: random values and the optimiser's are
    made where they belong, and values that were read go there from the host.
    """
    given = given_parameters(parts)
    return random_state(parts, placed) if given is None else state_of(parts, placed, given)


def random_state(parts: Parts, placed: TrainState) -> TrainState:
    """The state before the first step with random parameters."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed)
    return jax.jit(
        lambda: parts.initial_state(parts.random_parameters()), out_shardings=shardings
    )()


def state_of(parts: Parts, placed: TrainState, params: Any) -> TrainState:
    """The state before the first step with these parameters (numpy arrays, or laid out)."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, placed)
    params = jax.tree.map(jax.device_put, params, shardings.params)
    create = jax.jit(
        lambda params: parts.initial_state(params).replace(params=None),
        out_shardings=shardings.replace(params=None),
    )
    return create(params).replace(params=params)


def given_parameters(parts: Parts) -> Mapping[str, Any] | None:
    """The parameters that a run begins with, on the host, where they are not just random.

    From `init_from`: another run's folder, of which the averaged parameters are taken, a weights
    file or a packaged model's name; what it does not have, parts of another entropy model among
    them, gets random values. A stage's own part is that of `part_from`, or as the stage begins it.
    Or random ones with the linear start, if asked. None: `Parts.random_parameters` it is. Raises
    `ConfigError` where the model of `init_from` is another, `WeightsError` where a file cannot be
    used.
    """
    config = parts.config
    if config.init_from:
        return _read_parameters(parts)
    if not config.linear_start_batches:
        return None
    params = jax.device_get(jax.jit(parts.random_parameters)())
    batches = inputs.open_batches(config)
    drawn = [batches[i]["image"] for i in range(config.linear_start_batches)]
    images = np.concatenate(drawn)
    vqvae = linear_start.linear_start(config.model, params["vqvae"], images, config.seed)
    return {**params, "vqvae": vqvae}


def _read_parameters(parts: Parts) -> dict[str, Any]:
    """The parameters of `init_from` and `part_from`: float32 numpy arrays."""
    source, part_from = epath.Path(parts.config.init_from), parts.config.part_from
    if source.is_dir():
        other = checkpoints.read_config(source)
        if other is None:
            raise ConfigError(f"init_from: {source} holds no run.")
        if part_from:
            raise ConfigError(f"part_from: {source} is a run; name the weights file as init_from.")
        given_model, given = other.model, checkpoints.averaged_parameters(source)
    else:
        with tempfile.TemporaryDirectory() as folder:
            local = pathlib.Path(folder) / "weights.safetensors"
            if address.is_address(source):
                local.write_bytes(address.read_bytes(source))
            file = weights.load(local if address.is_address(source) else weights.resolve(source))
        companions.require_model(file)
        given_model, given = file.config["model"], file.tree["params"]
        if part_from:
            part = parts.stage.part
            given = {**given, part: companions.load(part, file, part_from)}
    here = parts.config.model
    one, other = ({**model, "entropy": None} for model in (given_model, here))
    if plain(one) != plain(other):
        raise ConfigError(f"init_from: {source} is of another model: {differences(one, other)}")
    anew = _other_parts(given_model, here)
    found = {path: leaf for path, leaf in weights.flatten(given) if path.split("/")[0] not in anew}
    wanted = dict(weights.flatten(parts.abstract_parameters))
    missing = {path for path in wanted if np.shape(found.get(path)) != wanted[path].shape}
    own = {path for path in missing if path.split("/")[0] == parts.stage.part}
    missing -= own
    if missing:
        names = sorted({"/".join(path.split("/")[:2]) for path in missing})
        logger.warning("%s has no parameters for: %s", source, ", ".join(names))
        found = {**found, **_drawn(parts, missing)}
    if own:  # the stage begins its part from the model as it was found
        base = weights.unflatten(
            {path: np.asarray(found[path], np.float32) for path in wanted.keys() - own}
        )
        begun = jax.device_get(jax.jit(parts.with_own_parameters)(base))
        found = {**found, **dict(weights.flatten(begun))}
    return weights.unflatten({path: np.asarray(found[path], np.float32) for path in wanted})


def _drawn(parts: Parts, paths: set[str]) -> dict[str, Any]:
    """Random parameters of these paths; the others are not made."""

    def draw() -> dict[str, jax.Array]:
        drawn = weights.flatten(parts.random_parameters())
        return {path: leaf for path, leaf in drawn if path in paths}

    return jax.device_get(jax.jit(draw)())


def _other_parts(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The parts of the entropy model that are of another class or have other fields."""
    a, b = (choices.read(model) for model in (one, other))
    names = {"hyperprior", "context", "z_prior"}
    differing = {name for name in names if vars(a)[name] != vars(b)[name]}
    return differing | ({"context"} if a.steps != b.steps else set())
