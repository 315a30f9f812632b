"""The step under pmap on two made-up devices: what it averages, it averages over both."""

import chex
import jax
import numpy as np
import pytest

from glc_jax.training import sharding
from glc_jax.training.step import make_train_step
from tests.training import small, toy

DEVICES = 2
TOLERANCE = 1e-6  # sums over a batch are taken in another order


@pytest.mark.slow
def test_two_devices_give_the_state_of_the_whole_batch(tmp_path):
    config = toy.config(tmp_path, optimizer__eps=1e-3)
    parts, start = small.parts(config), small.state(config)
    batch, key = small.batch(), jax.random.key(3)
    whole, metrics = jax.jit(make_train_step(parts))(start, batch, key, {})
    with chex.fake_pmap():
        step = sharding.pmap_step(make_train_step(parts, axis_name=sharding.DATA))
        state = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (DEVICES, *leaf.shape)), start)
        divided = {k: v.reshape(DEVICES, -1, *v.shape[1:]) for k, v in batch.items()}
        both, both_metrics = step(state, divided, key, {})
    for device in range(DEVICES):
        found = jax.tree.map(lambda leaf, device=device: leaf[device], both)
        chex.assert_trees_all_close(found, whole, atol=TOLERANCE)
        np.testing.assert_allclose(both_metrics["l1"][device], metrics["l1"], rtol=1e-5)
    moved = small.largest_difference(whole.params, start.params)
    assert moved > 20 * TOLERANCE
