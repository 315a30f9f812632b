"""The critic judges and moves from its very first step on, and not before, whatever it looks at."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.losses import adversarial
from glc_jax.training import networks
from glc_jax.training.config import Adversarial, Config, Optimizer
from glc_jax.training.critic import FEATURES, critic
from glc_jax.training.parameters import replace
from tests.training import small

START, CROP = 3, 16


@functools.cache
def begun(network: str = "patches"):
    """(critic, its state before the first step, its compiled judgement, its arguments)."""
    steady = Optimizer(warmup_steps=0, tail_steps=0)
    sizes = {"base_channels": 2, "layers": 1}
    fields = Adversarial(weight=0.5, start=START, network=network, optimizer=steady, **sizes)
    made = critic(Config(steps=9, dtype="float32", adversarial=fields))
    state = jax.jit(lambda: made.init(jax.random.key(0), CROP))()
    pictures = jax.random.uniform(jax.random.key(1), (2, 2, CROP, CROP, 3))
    frozen = networks.load(made.sight.networks)
    return made, state, jax.jit(made.judge), (*pictures, frozen)


@functools.cache
def judged(step: int, network: str):
    """(state before, judgement, state after) of one step."""
    made, state, judge, given = begun(network)
    found = judge(state, jnp.int32(step), *given)
    after = made.step(state, jnp.int32(step), found.gradient, found.batch_stats)
    return state, found, after


both = pytest.mark.parametrize("network", ["patches", "features"])


@both
@pytest.mark.parametrize("step", [0, START - 1])
def test_it_stands_still_before_its_start(step, network):
    before, found, after = judged(step, network)
    chex.assert_trees_all_equal(before, after)
    assert not found.pull.any()
    assert {name: float(value) for name, value in found.values.items()} == {
        "adversarial": 0,
        "discriminator": 0,
    }


@both
@pytest.mark.parametrize("step", [START, START + 1])
def test_it_is_active_from_its_start(step, network):
    before, found, after = judged(step, network)
    assert np.abs(found.pull).max() > 0
    assert float(found.values["discriminator"]) > 0
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params, after.params)
    assert any(jax.tree.leaves(moved))


def test_what_it_sees_are_features_that_stay_as_they_are():
    made, state, judge, (x_hat, images, frozen) = begun("features")
    assert FEATURES.networks == made.sight.networks == ("lpips_vgg",)
    maps = made.sight.see(frozen, x_hat)
    blank = made.sight.blank(CROP)
    assert [x.shape[1:] for x in maps] == [x.shape[1:] for x in blank]
    assert not state.batch_stats

    def logits(maps):
        return made.network.apply({"params": replace({}, state.params)}, maps)

    usual = logits(maps)
    assert [x.shape[1:] for x in usual] == [(8, 8, 1), (4, 4, 1), (4, 4, 1), (2, 2, 1)]
    for one, louder in zip(usual, logits([3 * x for x in maps]), strict=True):
        np.testing.assert_allclose(louder, one, atol=0.01 * np.abs(one).max())
    assert all(np.isfinite(x).all() for x in logits(blank))
    found = judge(state, jnp.int32(START), x_hat, images, frozen)
    real, fake = logits(made.sight.see(frozen, images)), usual
    levels = [adversarial.discriminator_hinge(*pair) for pair in zip(real, fake, strict=True)]
    np.testing.assert_allclose(found.values["discriminator"], np.mean(levels), rtol=1e-5)


def test_its_networks_are_loaded_with_those_of_the_losses():
    fields = {"losses__lpips": 1.0, "lpips_network": "alex", "adversarial__weight": 0.5}
    patches = small.parts(small.config(1, **fields))
    features = small.parts(small.config(1, **fields, adversarial__network="features"))
    assert patches.networks == ("lpips_alex",)
    assert features.networks == ("lpips_alex", "lpips_vgg")


def test_there_is_no_other():
    fields = Adversarial(weight=0.5, network="wavelets", optimizer=Optimizer(tail_steps=0))
    with pytest.raises(ConfigError, match=r"network is 'wavelets': patches or features"):
        critic(Config(steps=9000, adversarial=fields))


def test_on_cpu_it_is_not_in_a_branch():
    """XLA's gradients of convolutions on CPU take twenty times as long inside one."""
    _, state, judge, given = begun()
    program = judge.lower(state, jnp.int32(0), *given).compile().as_text()
    assert "convolution(" in program
    assert "conditional(" not in program


def test_its_averages_follow_real_and_drawn_pictures():
    _, state, judge, (x_hat, images, frozen) = begun()
    usual = judge(state, jnp.int32(START), x_hat, images, frozen).batch_stats
    for pair in ((2 * x_hat, images), (x_hat, 2 * images)):
        other = judge(state, jnp.int32(START), *pair, frozen).batch_stats
        for one, moved in zip(jax.tree.leaves(usual), jax.tree.leaves(other), strict=True):
            assert not np.array_equal(one, moved)


def test_its_weight_is_the_fixed_one_unless_it_adapts():
    pull, own = jnp.full(4, 2.0), jnp.full(4, 8.0)
    for adaptive, expected in ((False, 0.5), (True, 0.5 * 0.25)):
        fields = Adversarial(weight=0.5, adaptive=adaptive, optimizer=Optimizer(tail_steps=0))
        made = critic(Config(steps=9000, dtype="float32", adversarial=fields))
        weight, metrics = made.weight_of(pull, own, lambda gradient: gradient)
        np.testing.assert_allclose(weight, expected, rtol=1e-4)
        assert set(metrics) == ({"adaptive_weight"} if adaptive else set())
