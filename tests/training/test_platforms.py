"""Every step lowers for TPU and CUDA, at full size, from shapes alone."""

import importlib

import jax
import jax.export
import jax.numpy as jnp
import pytest

from glc_jax.training import setup
from glc_jax.training.evaluation import make_eval_step
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
    """State and batch as shapes: nothing is allocated."""
    state = jax.eval_shape(
        lambda params: setup.initial_state(config, params, setup.load_perceptual(config)),
        setup.abstract_parameters(config),
    )
    crop = config["data"]["crop"]
    batch = {
        "image": jax.ShapeDtypeStruct((config["batch"], crop, crop, 3), jnp.uint8),
        "index": jax.ShapeDtypeStruct((config["batch"],), jnp.int32),
    }
    return state, batch


@pytest.mark.parametrize("stage", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", SIZES)
def test_the_train_step_exports(size, stage):
    config = config_of(size, stage)
    state, batch = shapes_of(config)
    step = jax.jit(make_train_step(setup.build_model(config), config))
    key = jax.eval_shape(lambda: jax.random.key(0))
    exported = jax.export.export(step, platforms=["tpu", "cuda"])(state, batch, key)
    assert exported.platforms == ("tpu", "cuda")
    outputs = [(leaf.shape, leaf.dtype) for leaf in exported.out_avals]
    expected = jax.tree.leaves(jax.eval_shape(step, state, batch, key))
    assert outputs == [(leaf.shape, leaf.dtype) for leaf in expected]


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_the_eval_step_exports(size, stage):
    config = config_of(size, stage)
    state, batch = shapes_of(config)
    pictures = {"image": batch["image"], "weight": jax.ShapeDtypeStruct((config["batch"],), "f4")}
    step = jax.jit(make_eval_step(setup.build_model(config), config))
    exported = jax.export.export(step, platforms=["tpu", "cuda"])(
        state.params, pictures, state.perceptual or setup.load_perceptual(small.config(1))
    )
    assert exported.platforms == ("tpu", "cuda")
