"""What scripts/benchmark.py measures of a train step."""

import importlib.util
from types import SimpleNamespace

import jax
import pytest

from glc_jax.errors import ConfigError, InputError
from glc_jax.training import benchmark, sharding
from glc_jax.training.traffic import Sent
from tests.training import small


def test_a_topology_that_cannot_be_compiled_for_is_named():
    name = "v0:1x1"  # no such TPU, whether or not libtpu is installed
    with pytest.raises(InputError, match=name):
        benchmark.topology(name)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize(("name", "chips"), [("v5e:2x2", 4), ("v4:2x2x4", 16)])
def test_the_devices_of_a_topology(name, chips):
    devices = benchmark.topology(name)
    assert len(devices) == chips
    assert {device.platform for device in devices} == {"tpu"}
    sharding.make_mesh(1, chips, 1, devices)  # which takes one device of a chip only


def test_the_cores_of_a_chip_are_one_device(monkeypatch):
    def described(platform, topology_name, chip_config_name="default"):
        cores = 1 if chip_config_name == "megacore" else 2
        devices = [SimpleNamespace(core_on_chip=core) for _ in range(16) for core in range(cores)]
        return SimpleNamespace(devices=devices)

    monkeypatch.setattr(benchmark.topologies, "get_topology_desc", described)
    assert [device.core_on_chip for device in benchmark.topology("v4:2x2x4")] == [0] * 16


def test_the_time_that_a_chip_allows():
    sent = {"all-reduce": Sent(3, 10**9)}
    step = benchmark.Measured("train", None, None, None, 275e12, None, 0, sent)
    computing, sending = benchmark.allowed(step, "TPU v4", 16)
    assert computing == 1
    assert sending == pytest.approx(2 * 15 / 16 * 1e9 / 150e9)
    assert benchmark.allowed(step, "cpu", 16) is None


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
