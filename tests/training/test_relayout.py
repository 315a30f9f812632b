"""A run goes on on other devices or hosts as it would have gone on where it began."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from glc_jax.training.config import plain
from tests.training import hosts, small, toy

TOLERANCE = 5e-5  # as in test_hosts: sums over a batch are taken in another order

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    place = tmp_path_factory.mktemp("toy")
    boards = ("tests.training.toy:Lines",)
    found = toy.config(place, boards=boards, log_every=1, optimizer__eps=1e-3)
    found["eval"] |= {"batch": 8, "every": 0}
    return found


def run(config, workdir, processes=1, devices=1, **changes) -> pathlib.Path:
    file = workdir.with_suffix(".json")
    file.write_text(json.dumps(plain({**config, **changes})))
    hosts.finish(hosts.start(file, workdir, processes, devices))
    return workdir


@pytest.fixture(scope="module")
def on_eight(config, tmp_path_factory) -> pathlib.Path:
    """A whole run on eight devices."""
    return run(config, tmp_path_factory.mktemp("eight") / "run", devices=8)


def halfway(whole, workdir) -> pathlib.Path:
    """A copy of the run as it was after step 4."""
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints" / "8")
    (workdir / "lines.json").unlink()
    return workdir


def check(resumed, whole) -> None:
    """The same pictures in the same order, and the same state but for rounding."""
    there, here = toy.lines(whole), toy.lines(resumed)
    assert sorted(here) == [5, 6, 7, 8]
    seen = [[lines[step]["train/seen"] for step in sorted(here)] for lines in (there, here)]
    np.testing.assert_allclose(*seen, rtol=1e-5)
    assert np.min(np.abs(np.diff(seen[0]))) > 1e-3
    states = [small.saved_state(workdir) for workdir in (whole, resumed)]
    assert states[0].keys() == states[1].keys()
    assert small.largest_difference(*states) < TOLERANCE


def test_from_eight_devices_to_four(config, on_eight, tmp_path):
    resumed = halfway(on_eight, tmp_path / "run")
    check(run(config, resumed, devices=4), on_eight)


def test_from_a_model_axis_of_one_to_two(config, on_eight, tmp_path):
    resumed = halfway(on_eight, tmp_path / "run")
    mesh = {"model": 2, "shard_from": 64}
    check(run(config, resumed, devices=8, mesh=mesh), on_eight)


def test_from_two_hosts_to_one(config, tmp_path):
    whole = run(config, tmp_path / "two", processes=2)
    check(run(config, halfway(whole, tmp_path / "one")), whole)
