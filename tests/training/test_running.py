"""Metrics are summed on the device, fetched only when asked for, and a bad step is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.training.running import Diverged, Running, check_finite


def test_nothing_is_fetched_before_the_means_are_asked_for(monkeypatch):
    running = Running()
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_get", lambda tree: pytest.fail("fetched"))
        for step in range(1, 5):
            running.add(step, {"l1": jnp.float32(step), "loss": jnp.float32(2 * step)})
    assert running.means() == {"l1": 2.5, "loss": 5.0}
    running.clear()
    assert running.means() == {}
    running.add(5, {"l1": jnp.float32(7), "loss": jnp.float32(1)})
    assert running.means() == {"l1": 7, "loss": 1}


def test_only_the_last_steps_are_left_under_way(monkeypatch):
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", lambda value: waited.append(int(value)))
    running = Running(in_flight=2)
    for step in range(1, 6):
        running.add(step, {"l1": jnp.float32(0)})
    assert waited == [1, 2, 3]  # steps 4 and 5 may still run


def test_the_first_bad_step_is_named_however_late():
    running = Running()
    for step, value in ((1, 1.0), (2, np.nan), (3, np.inf), (4, 1.0)):
        running.add(step, {"loss": jnp.float32(value), "lpips": jnp.float32(value)})
    with pytest.raises(Diverged, match=r"Step 2: lpips is nan \(and loss\)"):
        running.means()


def test_a_loss_that_is_not_finite_is_named():
    check_finite(3, {"l1": 0.5, "loss": 1.0})
    with pytest.raises(Diverged, match=r"Step 4: lpips is nan \(and loss, gradient_norm\)"):
        check_finite(4, {"loss": np.nan, "gradient_norm": np.inf, "l1": 0.5, "lpips": float("nan")})
