"""The schedule's corners, AdamW's reach, and the critic's own steps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.training.config import Adversarial, Config, Optimizer
from glc_jax.training.critic import critic
from glc_jax.training.optimiser import learning_rate, optimiser
from glc_jax.training.state import DiscriminatorState

FIELDS = Optimizer(
    learning_rate=0.1,
    warmup_steps=4,
    tail_steps=10,
    b1=0.9,
    b2=0.99,
    eps=1e-8,
    weight_decay=0.0,
    clip_norm=0.0,
)


def test_the_rate_rises_holds_and_falls_to_zero():
    schedule = learning_rate(FIELDS, steps=30)
    rates = np.array([schedule(step) for step in range(31)])
    np.testing.assert_allclose(rates[:5], 0.1 * np.array([0.2, 0.4, 0.6, 0.8, 1.0]), rtol=1e-6)
    np.testing.assert_allclose(rates[4:21], 0.1, rtol=1e-6)
    assert (np.diff(rates[20:]) < 0).all()
    np.testing.assert_allclose(rates[25], 0.05, rtol=1e-5)
    np.testing.assert_allclose(rates[30], 0, atol=1e-9)


def test_a_schedule_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match="do not fit in 12 steps"):
        learning_rate(FIELDS, steps=12)
    whole = FIELDS.warmup_steps + FIELDS.tail_steps
    assert float(learning_rate(FIELDS, steps=whole)(whole)) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ConfigError):
        learning_rate(FIELDS, steps=whole - 1)


def test_weight_decay_touches_kernels_only():
    params = {name: jnp.ones(2) for name in ("a/kernel", "a/bias", "q/codebook")}
    tx = optimiser(replace(FIELDS, weight_decay=0.5), steps=30)
    zeros = {name: jnp.zeros(2) for name in params}
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["a/kernel"], -0.1 * 0.2 * 0.5, rtol=1e-6)
    assert not updates["a/bias"].any()
    assert not updates["q/codebook"].any()


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    # With a huge eps Adam's first step is proportional to the gradient.
    fields = replace(FIELDS, eps=1e8, warmup_steps=0)
    params = {"a/kernel": jnp.zeros(2)}
    gradient = {"a/kernel": jnp.float32([30.0, 40.0])}

    def first_step(clip):
        tx = optimiser(replace(fields, clip_norm=clip), steps=30)
        return np.asarray(tx.update(gradient, tx.init(params), params)[0]["a/kernel"])

    np.testing.assert_allclose(first_step(5.0) * 10, first_step(0.0), rtol=1e-5)


def test_clipping_does_not_change_the_shape_of_the_optimisers_state():
    params = {"a/kernel": jnp.zeros(2)}
    with_it, without = (
        optimiser(replace(FIELDS, clip_norm=clip), steps=30).init(params) for clip in (0.0, 1.0)
    )
    assert jax.tree.structure(with_it) == jax.tree.structure(without)


def _critic(start: int):
    fields = replace(FIELDS, warmup_steps=0, tail_steps=4, eps=1e-12)
    adversarial = Adversarial(weight=1.0, start=start, optimizer=fields)
    return critic(Config(steps=16, dtype="float32", adversarial=adversarial))


def test_the_critics_rate_reaches_zero_at_the_end_of_the_run_whenever_it_starts():
    params, gradient = {"a/kernel": jnp.zeros(1)}, {"a/kernel": jnp.ones(1)}
    for start in (0, 6):
        judge, sizes = _critic(start), []
        state = DiscriminatorState(params, {}, judge.optimiser.init(params))
        for step in range(16):
            after = judge.step(state, jnp.int32(step), gradient, {})
            sizes.append(float(state.params["a/kernel"][0] - after.params["a/kernel"][0]))
            state = after
        assert sizes[:start] == [0] * start
        np.testing.assert_allclose(sizes[start:13], 0.1, rtol=1e-3)
        last = 0.1 * 0.5 * (1 + np.cos(np.pi * 3 / 4))
        np.testing.assert_allclose(sizes[15], last, rtol=1e-3)


def test_a_critic_that_never_starts_is_refused():
    with pytest.raises(ConfigError, match="ends after 16 steps"):
        _critic(16)
