"""What scripts/benchmark.py measures of a train step."""

import importlib.util

import jax
import pytest

from glc_jax.errors import ConfigError, InputError
from glc_jax.training import benchmark
from tests.training import small


def test_a_topology_that_cannot_be_compiled_for_is_named():
    name = "v0:1x1"  # no such TPU, whether or not libtpu is installed
    with pytest.raises(InputError, match=name):
        benchmark.topology(name)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_the_devices_of_a_topology():
    devices = benchmark.topology("v5e:2x2")
    assert len(devices) == 4
    assert {device.platform for device in devices} == {"tpu"}


def test_a_batch_that_the_devices_do_not_divide():
    config = small.config(1, batch=3)
    with pytest.raises(ConfigError, match="cannot be divided"):
        benchmark.measure_training(small.parts(config), None, jax.devices()[:1] * 2)


@pytest.mark.slow
def test_a_step_that_is_only_compiled_holds_at_least_its_state():
    config = small.config(1)
    measured = benchmark.measure_training(small.parts(config), None, jax.devices()[:1])
    state = jax.eval_shape(lambda: small.state(config))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert measured.memory_bytes > held
    assert measured.flops > 1e6
    assert measured.seconds is None
