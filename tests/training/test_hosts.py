"""Two processes train together over gloo, match one process, and survive the loss of one."""

import json
import pathlib
import signal
import time

import numpy as np
import pytest

from glc_jax import weights
from glc_jax.training import checkpoints
from glc_jax.training.config import plain
from tests.training import small, toy
from tests.training.hosts import DEADLINE, finish, start

# Sums over a batch are taken in another order by two hosts; eight steps of 1e-3 carry that on.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def config_file(tmp_path_factory) -> pathlib.Path:
    place = tmp_path_factory.mktemp("hosts")
    config = small.config(
        1,
        losses__lpips=0.0,
        optimizer__eps=1e-3,
        checkpoint__every=3,
        data__folder=str(small.folder(place / "pictures")),
        eval__folder=str(small.folder(place / "held_out", 3)),
        eval__every=6,
        eval__batch=2,
    )
    config["init_from"] = small.weights_file(place / "start.safetensors", config)
    path = place / "config.json"
    path.write_text(json.dumps(plain(config)))
    return path


def averages(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    return dict(weights.flatten(checkpoints.averaged_parameters(workdir)))


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory) -> pathlib.Path:
    """A run that compiles in a moment, where only its processes are looked at."""
    place = tmp_path_factory.mktemp("toy")
    path = place / "config.json"
    path.write_text(json.dumps(plain(toy.config(place, checkpoint__every=3))))
    return path


@pytest.fixture(scope="module")
def alone(config_file, tmp_path_factory) -> dict[str, np.ndarray]:
    """The averages of a run by one process."""
    workdir = tmp_path_factory.mktemp("alone")
    finish(start(config_file, workdir, 1))
    return averages(workdir)


@pytest.mark.slow
def test_two_processes_match_one(config_file, alone, tmp_path):
    finish(start(config_file, tmp_path, 2))
    assert small.largest_difference(averages(tmp_path), alone) < TOLERANCE


@pytest.mark.slow
def test_a_model_axis_over_two_processes_matches_one(config_file, alone, tmp_path):
    config = json.loads(config_file.read_text())
    config["mesh"] = {"model": 2, "shard_from": 64}
    cut_file = tmp_path / "config.json"
    cut_file.write_text(json.dumps(config))
    finish(start(cut_file, tmp_path / "cut", 2))
    assert small.largest_difference(averages(tmp_path / "cut"), alone) < TOLERANCE


@pytest.mark.slow
def test_a_killed_process_costs_nothing_but_time(toy_file, tmp_path):
    whole, workdir = tmp_path / "whole", tmp_path / "killed"
    finish(start(toy_file, whole, 2))
    run = start(toy_file, workdir, 2)
    folder = workdir / "checkpoints"
    deadline = time.monotonic() + DEADLINE
    while not (folder / "3").is_dir():
        assert time.monotonic() < deadline, "no checkpoint in time"
        assert run[0].poll() is None
        time.sleep(0.02)
    run[1].kill()
    # The other cannot go on alone: what jax.distributed does then is to end it, in its own time.
    run[0].kill()
    for process in run:
        process.communicate(timeout=DEADLINE)
    finish(start(toy_file, workdir, 2))
    expected = averages(whole)
    for path, value in averages(workdir).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


@pytest.mark.slow
def test_sigterm_to_one_process_saves_and_ends_both(toy_file, tmp_path):
    endless = {**json.loads(toy_file.read_text()), "steps": 10**6}
    endless_file = tmp_path / "config.json"
    endless_file.write_text(json.dumps(endless))
    run = start(endless_file, tmp_path / "run", 2)
    folder = tmp_path / "run" / "checkpoints"
    deadline = time.monotonic() + DEADLINE
    while not (folder / "3").is_dir():
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.02)
    run[1].send_signal(signal.SIGTERM)
    stopped = []
    for process in run:
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, output[-3000:]
        stopped.append(output.split("finished at step ")[1].split()[0])
    assert stopped[0] == stopped[1]
    assert (folder / stopped[0]).is_dir()
