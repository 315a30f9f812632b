"""Whole runs: stopping and resuming, what is kept, and what ends a run."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from glc_jax import weights
from glc_jax.training import checkpoints, evaluators, sharding
from glc_jax.training.boards import Boards
from glc_jax.training.config import plain, read
from glc_jax.training.loop import is_due, stop_requests, train
from glc_jax.training.running import Diverged
from glc_jax.training.start import given_parameters
from glc_jax.training.state import TrainState
from tests.conftest import REPOSITORY
from tests.training import kills, small


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    """Stage I with everything that could break an exact resume: k-means, revival, the critic."""
    place = tmp_path_factory.mktemp("data")
    config = small.config(
        1,
        adversarial__weight=0.5,
        adversarial__start=2,
        codebook__dead_below=0.9,
        data__folder=str(small.folder(place / "pictures")),
        eval__folder=str(small.folder(place / "held_out", 3)),
        eval__every=4,
        eval__batch=2,
        optimizer__tail_steps=3,
        boards=("tensorboard",),
    )
    return {**config, "init_from": small.weights_file(place / "start.safetensors", config)}


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> tuple:
    """A run of all 8 steps without a stop: (folder, last state)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(config, workdir)


def same(one, other) -> bool:
    """Whether two states agree in every bit."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_resumed_run_equals_one_without_a_stop(config, whole, tmp_path, stop, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def stop_at(step: int):
        yield lambda current: current == step

    with monkeypatch.context() as patch:
        patch.setattr("glc_jax.training.loop.stop_requests", lambda: stop_at(stop))
        stopped = train(config, tmp_path)
    assert int(stopped.step) == stop
    resumed = train(config, tmp_path)
    assert int(resumed.step) == config["steps"]
    assert same(resumed, whole[1])


@pytest.mark.slow
def test_an_unfinished_or_damaged_checkpoint_is_passed_over(config, whole, tmp_path, caplog):
    workdir, last = whole
    shutil.copytree(workdir, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "checkpoints"
    # One that was being written when the machine died, and one whose data are gone.
    (folder / "9.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    shutil.rmtree(folder / "8" / "state" / "d")
    state = train(config, tmp_path)
    text = caplog.text
    assert "not finished" in text
    assert "9.orbax-checkpoint-tmp" in text
    assert "Ignored checkpoint 8" in text
    assert same(state, last)  # from step 4 on, again
    with ocp.CheckpointManager(folder) as manager:
        assert manager.latest_step() == 8
    assert same(checkpoints.averaged_parameters(tmp_path, 8), jax.device_get(last.averaged()))


@pytest.mark.slow
def test_the_last_and_the_best_checkpoints_stay(config, whole):
    workdir, _ = whole
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert steps == [4, 8]
    events = list((workdir / "tensorboard").glob("events*"))
    assert events[0].stat().st_size > 5000
    assert checkpoints.read_config(workdir) == read(config)


@pytest.mark.slow
def test_the_next_stage_starts_from_the_averages(config, whole, tmp_path):
    workdir, last = whole
    following = small.config(2, init_from=str(workdir))
    params = given_parameters(small.parts(following))
    expected = dict(weights.flatten(last.averaged()))
    for path, leaf in weights.flatten(params):
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)


def test_sigterm_is_noted_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as asked:
        assert not asked(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        assert asked(2)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_zero(config, tmp_path):
    endless = {**config, "steps": 100_000, "log_every": 1}
    endless["eval"] = {**config["eval"], "every": 0}
    endless["checkpoint"] = {**config["checkpoint"], "every": 0}
    (tmp_path / "run.json").write_text(json.dumps(plain(endless)))
    (tmp_path / "run.py").write_text(kills.CONFIG_FILE)
    command = [sys.executable, "scripts/train.py", "--config", str(tmp_path / "run.py")]
    command += ["--workdir", str(tmp_path / "run")]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if " step 2/" in line:
            process.send_signal(signal.SIGTERM)
            break
    rest = process.stdout.read()
    assert process.wait() == 0
    assert "Asked to stop: saved step" in rest
    saved = [p.name for p in pathlib.Path(tmp_path / "run" / "checkpoints").iterdir()]
    assert len(saved) == 1
    assert int(saved[0]) <= 5


@pytest.mark.slow
def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(config, tmp_path):
    broken = {**config, "optimizer": {**config["optimizer"], "learning_rate": 1e30}}
    broken["checkpoint"] = {**config["checkpoint"], "every": 1}
    with pytest.raises(Diverged, match=r"Step \d+: \w+ is (nan|inf)"):
        train(broken, tmp_path)
    steps = [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    for step in steps:
        values = checkpoints.averaged_parameters(tmp_path, int(step))
        assert all(np.isfinite(leaf).all() for _, leaf in weights.flatten(values))


def test_what_is_due():
    assert [step for step in range(1, 8) if is_due(step, 3, step == 7)] == [3, 6, 7]
    assert not any(is_due(step, 0, step == 7) for step in range(1, 8))


class Constant:
    """An evaluator of one's own."""

    def __init__(self, place: evaluators.Place):
        self.count = len(place.held_out)

    def __call__(self, params, step, board):
        changed = params["vqvae"]["generator"]["conv_out"]["bias"]
        return {"pictures": float(self.count), "bias": float(changed.mean())}


def test_evaluators_share_one_program_and_may_be_ones_own(config, monkeypatch):
    once = chex.assert_max_traces(TrainState.averaged, n=1)
    monkeypatch.setattr(TrainState, "averaged", once)
    named = ("tests.training.test_loop:Constant",)
    parts = small.parts({**config, "eval": {**config["eval"], "evaluators": named}})
    run = evaluators.Evaluators(parts, sharding.make_mesh(1, config["batch"], 1))
    state, board = small.state(config), Boards()
    averages = {path: jnp.full_like(leaf, 7) for path, leaf in state.ema.items()}
    state = state.replace(ema=averages)
    for step in (1, 2):
        assert run(state, step, board) == {"pictures": 3.0, "bias": 7.0}
