"""The three configs: complete, alike in their fields, and without contradictions."""

import importlib
import pathlib

import jax
import pytest

from glc_jax import weights
from glc_jax.training import setup
from glc_jax.training.stages import STAGES
from tests.conftest import REPOSITORY

NAMES = ["natural", "face", "tiny"]


def config_of(name: str, stage: int) -> dict:
    return importlib.import_module(f"configs.{name}").get_config(f"stage{stage}").to_dict()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_config_contradicts_nothing(name, stage):
    config = config_of(name, stage)
    setup.check_config(config)
    setup.check_trainable(config, setup.abstract_parameters(config))
    assert config["stage"] == stage
    assert config["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_all_configs_have_the_same_fields(name):
    fields = {path for path, _ in weights.flatten(config_of(name, 1))}
    assert fields == {path for path, _ in weights.flatten(config_of("tiny", 1))}


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_how_it_is_run_and_what_it_costs(name):
    text = pathlib.Path(REPOSITORY, "configs", f"{name}.py").read_text()
    docstring = text.split('"""')[1]
    assert f"--config configs/{name}.py:stage1" in docstring
    assert "Cost" in docstring
    assert "Hardware" in docstring


def test_stage_two_leaves_the_vqvae_alone_and_stage_one_trains_nothing_else():
    for name in NAMES:
        shapes = setup.abstract_parameters(config_of(name, 1))
        from glc_jax.training.parameters import select

        first, second = (select(shapes, config_of(name, stage)["trainable"]) for stage in (1, 2))
        assert {path.split("/")[0] for path in first} == {"vqvae"}
        assert not first.keys() & second.keys()
        assert len(jax.tree.leaves(shapes)) == len(select(shapes, config_of(name, 3)["trainable"]))
