"""Every step lowers for TPU and CUDA, at full size, from shapes alone."""

import importlib

import jax
import jax.export
import jax.numpy as jnp
import pytest

from glc_jax.training import networks
from glc_jax.training.evaluation import make_eval_step
from glc_jax.training.evaluators import chosen_measures
from glc_jax.training.step import make_train_step
from tests.training import small

SIZES = [
    "small",
    pytest.param("natural", marks=pytest.mark.slow),
    pytest.param("face", marks=pytest.mark.slow),
]


def config_of(size: str, stage: int) -> dict:
    """The config, with two pictures a batch and accumulated part."""
    if size == "small":
        return small.config(stage)
    config = importlib.import_module(f"configs.{size}").get_config(f"stage{stage}")
    config.batch = 4
    return config.to_dict()


def shapes_of(config: dict) -> tuple:
    """The run's parts, and state, batch and networks as shapes: nothing is allocated."""
    parts = small.parts(config)
    crop, count = parts.config.data.crop, parts.config.batch
    batch = {
        "image": jax.ShapeDtypeStruct((count, crop, crop, 3), jnp.uint8),
        "index": jax.ShapeDtypeStruct((count,), jnp.int32),
    }
    return parts, parts.abstract_state(), batch, networks.load(parts.networks)


@pytest.mark.parametrize("stage", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
@pytest.mark.parametrize("size", SIZES)
def test_the_train_step_exports(size, stage):
    parts, *arguments, frozen = shapes_of(config_of(size, stage))
    step = jax.jit(make_train_step(parts))
    arguments += [jax.eval_shape(lambda: jax.random.key(0)), frozen]
    exported = jax.export.export(step, platforms=["tpu", "cuda"])(*arguments)
    assert exported.platforms == ("tpu", "cuda")
    outputs = [(leaf.shape, leaf.dtype) for leaf in exported.out_avals]
    expected = jax.tree.leaves(jax.eval_shape(step, *arguments))
    assert outputs == [(leaf.shape, leaf.dtype) for leaf in expected]


@pytest.mark.parametrize("stage", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", SIZES)
def test_the_eval_step_exports(size, stage):
    parts, state, batch, _ = shapes_of(config_of(size, stage))
    weight = jax.ShapeDtypeStruct(batch["index"].shape, "f4")
    pictures = {"image": batch["image"], "weight": weight}
    chosen = chosen_measures(parts)
    frozen = networks.load(name for measure in chosen.values() for name in measure.networks)
    step = jax.jit(make_eval_step(parts.model, parts.stage.reconstruct, chosen))
    exported = jax.export.export(step, platforms=["tpu", "cuda"])(state.params, pictures, frozen)
    assert exported.platforms == ("tpu", "cuda")
