"""The tiny config at a size whose steps compile and run in seconds."""

import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image

from configs import tiny
from glc_jax import weights
from glc_jax.training import checkpoints, networks, saved
from glc_jax.training.config import plain, read
from glc_jax.training.parts import Parts, assemble
from glc_jax.training.state import TrainState
from glc_jax.training.step import make_train_step
from tests.small_model import picture, random_parameters

CROP, BATCH = 32, 8


def config(stage: int | str, /, **changes: Any) -> dict[str, Any]:
    """The small config of a stage; keys of `changes` are paths such as data__folder."""
    config = tiny.get_config(f"stage{stage}" if isinstance(stage, int) else stage)
    config.model.update(
        {
            "latent_channels": 8,
            "codebook_size": 16,
            "hyper_codebook_size": 16,
            "vqvae": {
                "base_channels": 4,
                "multipliers": (1, 2, 2),
                "encoder_blocks": (1, 1, 1),
                "generator_blocks": (1, 1, 1),
                "norm_groups": 2,
            },
            "code_predictor": {
                "positions": 64,
                "width": 16,
                "layers": 1,
                "heads": 2,
                "mlp_width": 16,
            },
        }
    )
    config.data.crop = config.eval.crop = CROP
    config.data.scale = (0.4, 1.0)
    config.data.cache_gb = 0.1
    config.losses.update({"lpips": 1.0, "dists": 0.0, "spectral_excess": 0.0, "latent": 1.0})
    config.losses.update({"code_prediction": 0.05, "pixel_code_prediction": 0.05})
    config.lambdas = (16.0, 8.0, 4.0, 2.0)
    config.batch = BATCH
    config.steps = 8
    config.optimizer.update({"warmup_steps": 2, "tail_steps": 3, "learning_rate": 1e-3})
    config.adversarial.update({"base_channels": 4, "layers": 1, "optimizer": config.optimizer})
    config.codebook.update({"kmeans_batches": 2, "revive_every": 3, "decay": 0.5})
    config.codebook.quantised_share = 1.0
    config.linear_start_batches = 0
    if stage == 2:
        config.codebook.kmeans_step = 0
    config.eval.metrics = ("psnr", "lpips")  # the crops are too small for the others
    config.log_every = 2
    config.boards = ()  # tensorboardX imports PyTorch where it is installed: seconds of each run
    config.checkpoint.every = 4
    for path, value in changes.items():
        *sections, field = path.split("__")
        node = config
        for section in sections:
            node = node[section]
        node[field] = value
    return config.to_dict()


def parts(config: dict[str, Any]) -> Parts:
    """The parts of a run, made once for each config."""
    return _parts(json.dumps(plain(config), sort_keys=True))


@functools.lru_cache
def _parts(config: str) -> Parts:
    return assemble(read(json.loads(config)))


def batch(seed: int = 0, size: int = BATCH) -> dict[str, np.ndarray]:
    """A batch of made-up pictures."""
    images = np.stack([picture(CROP, CROP, seed * size + i) for i in range(size)])
    return {"image": images, "index": np.arange(size, dtype=np.int32)}


def parameters(config: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Random parameters of a fitting scale, which depend on the model alone."""
    return _parameters(json.dumps(plain(config["model"]), sort_keys=True), seed)


@functools.lru_cache
def _parameters(model: str, seed: int) -> dict[str, Any]:
    described = config(1)
    described["model"] = json.loads(model)
    return random_parameters(parts(described).abstract_parameters, seed)


def started(config: dict[str, Any]) -> dict[str, Any]:
    """`parameters`, but of all that codes the latent the model's own initialisation."""
    model = parts(config).model
    latent = jnp.zeros((1, 8, 8, config["model"]["latent_channels"]))
    start = jax.jit(lambda key: model.init(key, latent, jnp.zeros(1), method="code")["params"])
    return {**parameters(config), **jax.device_get(start(jax.random.key(0)))}


def weights_file(path: pathlib.Path, config: dict[str, Any]) -> str:
    """A weights file with `parameters`, to be named as a run's init_from."""
    described = {"name": "small", "model": plain(config["model"])}
    weights.save(path, {"params": parameters(config)}, described)
    return str(path)


def state(config: dict[str, Any]) -> TrainState:
    """The state before the first step, without files."""
    params = jax.tree.map(jnp.asarray, parameters(config))
    return parts(config).initial_state(params)


def jit_train_step(config: dict[str, Any]) -> Any:
    """The config's train step, compiled quickly: (state, batch, rng) -> (state, metrics).

    It does not donate the state.
    """
    made = parts(config)
    jitted = jax.jit(make_train_step(made))
    frozen = networks.load(made.networks)
    return lambda state, batch, rng: jitted(state, batch, rng, frozen)


def folder(path: pathlib.Path, count: int = 5) -> pathlib.Path:
    """A folder of made-up pictures."""
    path.mkdir()
    for i in range(count):
        Image.fromarray(picture(48, 40 + 4 * i, i)).save(path / f"{i}.png")
    return path


def saved_state(workdir: epath.PathLike) -> dict[str, Any]:
    """The whole last state of a run, by path, and the step at which it was saved."""
    with saved.Reader(checkpoints.checkpoint_folder(workdir)) as reader:
        step = reader.steps()[0]
        return {"saved at": step, **reader.read(step, reader.shapes(step))}


def largest_difference(one: Any, other: Any) -> float:
    """The largest absolute difference between two trees of arrays."""
    differences = jax.tree.map(
        lambda a, b: float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))),
        one,
        other,
    )
    return max(jax.tree.leaves(differences))
