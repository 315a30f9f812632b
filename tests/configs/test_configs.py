"""The configs: without contradictions, and each says how it is run."""

import functools
import importlib
import pathlib

import jax
import pytest

from glc_jax.training.config import read
from glc_jax.training.parameters import select
from glc_jax.training.parts import Parts, assemble
from glc_jax.training.stage_choices import STAGES
from tests.conftest import REPOSITORY

NAMES = ["natural", "face", "tiny", "smoke"]


def config_of(name: str, stage: str) -> dict:
    return importlib.import_module(f"configs.{name}").get_config(stage).to_dict()


@functools.cache
def parts_of(name: str, stage: str) -> Parts:
    return assemble(read(config_of(name, stage)))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_config_contradicts_nothing(name, stage):
    parts = parts_of(name, stage)
    assert (parts.config.stage, parts.config.name) == (stage, name)
    assert len(parts.losses) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_how_it_is_run_and_what_it_costs(name):
    text = pathlib.Path(REPOSITORY, "configs", f"{name}.py").read_text()
    docstring = text.split('"""')[1]
    assert f"--config configs/{name}.py:stage1" in docstring
    assert "Cost" in docstring
    assert "Hardware" in docstring


@pytest.mark.parametrize("name", NAMES)
def test_stage_two_leaves_the_vqvae_alone_and_stage_one_trains_nothing_else(name):
    shapes = parts_of(name, "stage1").abstract_parameters
    first, second, third = (
        select(shapes, config_of(name, f"stage{number}")["trainable"]) for number in (1, 2, 3)
    )
    assert {path.split("/")[0] for path in first} == {"vqvae"}
    assert not first.keys() & second.keys()
    assert len(jax.tree.leaves(shapes)) == len(third)


def test_the_texture_stage_of_tiny_leaves_files_as_they_are():
    """It trains what draws, and nothing that decides what is written."""
    parts = parts_of("tiny", "texture")
    assert parts.config.stage == "stage3"
    assert "lpips_vgg" in parts.networks
    assert not {"rate", "hyper_codebook", "codebook"} & {loss.name for loss in parts.losses}
    trained = select(parts.abstract_parameters, parts.trainable)
    assert {"/".join(path.split("/")[:2]) for path in trained if "vqvae" in path} == {
        "vqvae/generator"
    }
    assert {path.split("/")[0] for path in trained} == {"vqvae", "g_s"}
