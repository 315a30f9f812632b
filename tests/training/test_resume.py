"""Whole runs of a toy stage: stopped, damaged, changed; resumed as if nothing was."""

import contextlib
import logging
import shutil

import chex
import jax
import numpy as np
import pytest

from glc_jax import weights
from glc_jax.errors import ConfigError
from glc_jax.training import checkpoints
from glc_jax.training.loop import train
from glc_jax.training.running import Diverged
from tests.training import toy

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dict:
    return toy.config(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory) -> tuple:
    """A run of all 8 steps without a stop: (folder, last state)."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(config, workdir)


def stopped(config, workdir, step: int):
    """A run that is asked to stop at a step."""

    @contextlib.contextmanager
    def requests():
        yield lambda current: current == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glc_jax.training.loop.stop_requests", requests)
        state = train(config, workdir)
    assert int(state.step) == step
    return state


@pytest.mark.parametrize("stop", [1, pytest.param(4, marks=SLOW), pytest.param(7, marks=SLOW)])
def test_a_resumed_run_equals_one_without_a_stop(config, whole, tmp_path, stop):
    stopped(config, tmp_path, stop)
    chex.assert_trees_all_equal(train(config, tmp_path), whole[1])


def test_a_run_moves_what_it_trains_and_keeps_the_last_and_the_best(config, whole):
    workdir, last = whole
    saved = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert saved == [4, 8]
    before = dict(weights.flatten(checkpoints.averaged_parameters(workdir, 4)))
    after = dict(weights.flatten(checkpoints.averaged_parameters(workdir, 8)))
    moved = {path for path, leaf in after.items() if not np.array_equal(leaf, before[path])}
    assert moved == set(last.ema) - {"vqvae/generator/conv_out/bias"}  # the toy does not use it


def test_a_damaged_newest_checkpoint_is_trained_and_saved_again(config, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "8" / "state" / "d")
    chex.assert_trees_all_equal(train(config, tmp_path), whole[1])
    found = checkpoints.averaged_parameters(tmp_path, 8)
    chex.assert_trees_all_equal(found, jax.device_get(whole[1].averaged()))


def test_what_did_not_change_is_resumed_and_what_did_is_named(config, tmp_path, caplog):
    stopped(config, tmp_path, 4)
    before = checkpoints.averaged_parameters(tmp_path, 4)
    wider = {**config, "trainable": "vqvae/generator/conv_(in|out)/"}
    wider["optimizer"] = {**config["optimizer"], "clip_norm": 0.0}
    with caplog.at_level(logging.WARNING):
        after = stopped(wider, tmp_path, 5)
    assert "Begun anew: ema, opt_state. Dropped: nothing." in caplog.text
    counts = {int(x) for x in jax.tree.leaves(after.opt_state) if np.ndim(x) == 0}
    assert counts == {5}
    assert set(after.ema) == {
        f"vqvae/generator/conv_{end}/{leaf}" for end in ("in", "out") for leaf in ("bias", "kernel")
    }
    # Nothing pulls at conv_in, which the toy does not use, and its average is that of its value.
    given = before["vqvae"]["generator"]["conv_in"]["kernel"]
    np.testing.assert_allclose(after.ema["vqvae/generator/conv_in/kernel"], given, rtol=1e-6)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        narrow = stopped(config, tmp_path, 6)
    assert "Begun anew: nothing. Dropped: ema, opt_state." in caplog.text
    assert len(narrow.ema) == 2


def test_a_run_of_another_stage_is_refused(config, whole):
    with pytest.raises(ConfigError, match=r"stage is tests\.training\.toy:ToyStage there"):
        train({**config, "stage": "stage1"}, whole[0])


def test_intervals_of_0_mean_never_but_the_last_state_is_saved(config, tmp_path, caplog):
    never = {**config, "log_every": 0, "steps": 6}
    never["checkpoint"] = {**config["checkpoint"], "every": 0}
    never["eval"] = {**config["eval"], "every": 0}
    with caplog.at_level(logging.INFO, "glc_jax"):
        train(never, tmp_path)
    assert not [r for r in caplog.messages if r.startswith(("step ", "held out"))]
    saved = [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert saved == ["6"]


def test_metrics_are_fetched_when_they_are_logged_and_not_at_each_step(
    config, tmp_path, monkeypatch
):
    fetched, fetch = [], jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: fetched.append(1) or fetch(tree))
    quiet = {**config, "log_every": 4, "eval": {**config["eval"], "every": 0}}
    train(quiet, tmp_path)
    assert len(fetched) <= 2 * 2  # means and the codes' use, after steps 4 and 8


def test_no_checkpoint_follows_a_bad_step(config, tmp_path):
    broken = {**config, "log_every": 0}
    broken["optimizer"] = {**config["optimizer"], "learning_rate": 1e38, "warmup_steps": 0}
    with pytest.raises(Diverged, match=r"Step \d: \w+ is (nan|inf)"):
        train(broken, tmp_path)
    saved = [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    assert saved == []
