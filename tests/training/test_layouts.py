"""Any layout over devices gives the state of one device with the whole batch."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from glc_jax.errors import ConfigError
from glc_jax.training import sharding
from tests.conftest import IN_HASTE, REPOSITORY
from tests.training import small

# Sums over a batch are taken in another order; three steps of size 1e-3 carry that on.
TOLERANCE = 2e-5
METRICS_TOLERANCE = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_eight_devices_agree_with_one(stage):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{IN_HASTE} --xla_force_host_platform_device_count=8",
    }
    command = [sys.executable, "-m", "tests.training.layouts", str(stage)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["moved"] > 1e-3
    assert report.get("begun", 0.0) < 1e-6
    assert report["sharded_parameters"] > 10
    assert set(report["states"]) == {"model"} | ({"pmap", "data"} if stage == 1 else set())
    assert max(report["states"].values()) < TOLERANCE, report
    assert max(report["metrics"].values()) < METRICS_TOLERANCE, report


def test_large_parameters_are_cut_along_their_last_divisible_dimension():
    mesh = AbstractMesh((4, 2), (sharding.DATA, sharding.MODEL))
    cut = lambda shape: sharding.parameter_spec(shape, mesh, 64)  # noqa: E731
    assert cut((3, 3, 8, 16)) == PartitionSpec(None, None, None, sharding.MODEL)
    assert cut((32, 7)) == PartitionSpec(sharding.MODEL, None)
    assert cut((9, 9)) == PartitionSpec()
    assert cut((2, 2)) == PartitionSpec()


def test_what_cannot_be_divided_is_said():
    devices = jax.device_count()
    with pytest.raises(ConfigError, match="model axis of"):
        sharding.make_mesh(devices + 1, 8, 1)
    with pytest.raises(ConfigError, match="multiple of 3"):
        sharding.make_mesh(devices, 8, 3)


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([[0], [0], [1], [1]], [(0, 2), (1, 2)]),  # no model axis
        ([[0, 0], [1, 1]], [(0, 2), (1, 2)]),  # within each host
        ([[0, 1]], [(0, 1), (0, 1)]),  # over both hosts: both read everything
        ([[0, 1], [0, 1], [2, 3], [2, 3]], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ([[1, 1], [0, 0]], [(1, 2), (0, 2)]),
    ],
)
def test_hosts_that_hold_the_same_rows_read_the_same_pictures(processes, expected):
    found = [sharding.shard_of(np.array(processes), number) for number in range(len(expected))]
    assert found == expected


@pytest.mark.parametrize("processes", [[[0, 0], [0, 1], [1, 1], [1, 1]], [[0], [1], [0], [1]]])
def test_hosts_that_hold_unequal_rows_are_refused(processes):
    with pytest.raises(ConfigError, match=r"change mesh\.model"):
        sharding.shard_of(np.array(processes), 0)


def test_a_batch_becomes_global_in_order():
    mesh = sharding.make_mesh(1, 8, 1)
    batch = small.batch()
    placed = sharding.global_batch(batch, mesh)
    np.testing.assert_array_equal(placed["index"], batch["index"])
    np.testing.assert_array_equal(placed["image"], batch["image"])
