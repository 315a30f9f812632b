"""The schedule's corners and AdamW's reach."""

import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import ConfigError
from glc_jax.training.optimiser import learning_rate, optimiser

FIELDS = {
    "learning_rate": 0.1,
    "warmup_steps": 4,
    "tail_steps": 10,
    "b1": 0.9,
    "b2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
}


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


def test_weight_decay_touches_kernels_only():
    params = {name: jnp.ones(2) for name in ("a/kernel", "a/bias", "q/codebook")}
    tx = optimiser({**FIELDS, "weight_decay": 0.5}, steps=30)
    zeros = {name: jnp.zeros(2) for name in params}
    updates, _ = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["a/kernel"], -0.1 * 0.2 * 0.5, rtol=1e-6)
    assert not updates["a/bias"].any()
    assert not updates["q/codebook"].any()


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    # With a huge eps Adam's first step is proportional to the gradient.
    fields = {**FIELDS, "eps": 1e8, "warmup_steps": 0}
    params = {"a/kernel": jnp.zeros(2)}
    gradient = {"a/kernel": jnp.float32([30.0, 40.0])}

    def first_step(clip):
        tx = optimiser({**fields, "clip_norm": clip}, steps=30)
        return np.asarray(tx.update(gradient, tx.init(params), params)[0]["a/kernel"])

    np.testing.assert_allclose(first_step(5.0) * 10, first_step(0.0), rtol=1e-5)
