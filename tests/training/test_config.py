"""Configs are read once: defaults for what is missing, one sentence for what is wrong."""

import json

import pytest

from configs import tiny
from glc_jax.errors import ConfigError
from glc_jax.training import checkpoints
from glc_jax.training.config import Config, Optimizer, differences, plain, read


def test_what_is_missing_has_its_default_and_what_is_given_its_value():
    config = read({"batch": 4, "optimizer": {"b2": 0.5}, "data": {"scale": [1, 2]}})
    assert config.batch == 4
    assert config.optimizer == Optimizer(b2=0.5)
    assert config.data.scale == (1.0, 2.0)
    assert config.ema == Config().ema


def test_a_run_of_an_earlier_release_is_read(tmp_path):
    old = tiny.get_config("stage3").to_dict()
    for field in ("jitter", "boards", "profile", "watchdog_minutes"):
        del old[field]
    del old["losses"]["lpips_vgg"], old["eval"]["metrics"], old["eval"]["evaluators"]
    (tmp_path / "config.json").write_text(json.dumps({**old, "stage": 3}))
    config = checkpoints.read_config(tmp_path)
    assert config.stage == "stage3"
    assert config.jitter == 0
    assert config.eval.metrics == Config().eval.metrics


def test_what_was_read_comes_back_from_json():
    config = read(tiny.get_config("stage2").to_dict())
    assert read(json.loads(json.dumps(plain(config)))) == config


def test_differences_are_named():
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == ""
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}) == (
        "a/b is 1 there and 3 here, c is 2 there and None here"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bach": 4}, "config.bach is no field"),
        ({"optimizer": {"b3": 0.5}}, "config.optimizer.b3 is no field"),
        ({"batch": "4"}, "config.batch is '4'; it must be of the kind int"),
        ({"batch": True}, "of the kind int"),
        ({"optimizer": {"learning_rate": True}}, "learning_rate is True; .* of the kind float"),
        ({"data": 3}, "of the kind Data"),
        ({"lambdas": ["a"]}, "config.lambdas is 'a'; it must be of the kind float"),
        ({"losses": 1.0}, "config.losses is 1.0"),
    ],
)
def test_what_is_wrong_is_named(given, expected):
    with pytest.raises(ConfigError, match=expected):
        read(given)
