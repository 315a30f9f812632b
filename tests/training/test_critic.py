"""The critic judges and moves from its very first step on, and not before."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.training.config import Adversarial, Config, Optimizer
from glc_jax.training.critic import critic

START, CROP = 3, 16


@functools.cache
def begun():
    """(critic, its state before the first step, its compiled judgement, both kinds of pictures)."""
    steady = Optimizer(warmup_steps=0, tail_steps=0)
    fields = Adversarial(weight=0.5, start=START, base_channels=2, layers=1, optimizer=steady)
    made = critic(Config(steps=9, dtype="float32", adversarial=fields))
    state = jax.jit(lambda: made.init(jax.random.key(0), CROP))()
    pictures = jax.random.uniform(jax.random.key(1), (2, 2, CROP, CROP, 3))
    return made, state, jax.jit(made.judge), pictures


@functools.cache
def judged(step: int):
    """(state before, judgement, state after) of one step."""
    made, state, judge, pictures = begun()
    found = judge(state, jnp.int32(step), *pictures)
    after = made.step(state, jnp.int32(step), found.gradient, found.batch_stats)
    return state, found, after


@pytest.mark.parametrize("step", [0, START - 1])
def test_it_stands_still_before_its_start(step):
    before, found, after = judged(step)
    chex.assert_trees_all_equal(before, after)
    assert not found.pull.any()
    assert {name: float(value) for name, value in found.values.items()} == {
        "adversarial": 0,
        "discriminator": 0,
    }


@pytest.mark.parametrize("step", [START, START + 1])
def test_it_is_active_from_its_start(step):
    before, found, after = judged(step)
    assert np.abs(found.pull).max() > 0
    assert float(found.values["discriminator"]) > 0
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before.params, after.params)
    assert any(jax.tree.leaves(moved))


def test_on_cpu_it_is_not_in_a_branch():
    """XLA's gradients of convolutions on CPU take twenty times as long inside one."""
    _, state, judge, pictures = begun()
    program = judge.lower(state, jnp.int32(0), *pictures).compile().as_text()
    assert "convolution(" in program
    assert "conditional(" not in program


def test_its_averages_follow_real_and_drawn_pictures():
    _, state, judge, (x_hat, images) = begun()
    usual = judge(state, jnp.int32(START), x_hat, images).batch_stats
    for pair in ((2 * x_hat, images), (x_hat, 2 * images)):
        other = judge(state, jnp.int32(START), *pair).batch_stats
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
