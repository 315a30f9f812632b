"""Whole runs: stopping and resuming, what is kept, and what ends a run."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from glc_jax import weights
from glc_jax.data.pipeline import Skipped
from glc_jax.training import checkpoints, evaluators, sharding
from glc_jax.training.boards import Boards
from glc_jax.training.config import Checkpoint, Codebook, Config, Evaluation, plain, read
from glc_jax.training.loop import Run, is_due, stop_requests, train
from glc_jax.training.running import Diverged
from glc_jax.training.start import given_parameters
from glc_jax.training.state import TrainState
from glc_jax.training.watch import Ledger
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
def test_a_critic_of_features_is_resumed_as_well(config, tmp_path):
    """It has no running averages: a state with an empty part is saved and read."""
    adversarial = {**config["adversarial"], "network": "features", "start": 0}
    config = {**config, "adversarial": adversarial}
    whole = train({**config, "steps": 5}, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "checkpoints" / "5")
    resumed = train({**config, "steps": 5}, tmp_path / "part")
    assert same(resumed, whole)
    assert not whole.discriminator.batch_stats


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


class Counting(Run):
    """A run whose step only counts: its loss is the number of the step and of the batch."""

    def compile(self, state, batch, rng):
        def step(state, batch, rng, frozen):
            number = jnp.float32(state.step + 1)
            metrics = {"loss": number, "batch": jnp.float32(batch["index"][0])}
            return SimpleNamespace(step=state.step + 1, code_use={}), metrics

        return step, None


class Noted:
    """Stands in for all that a loop calls, and notes what it was called with."""

    def __init__(self):
        self.lines, self.saved, self.measured, self.kmeans = {}, [], [], []
        self.skipped = Skipped()

    def iterate(self, step):
        return ({"index": np.full(1, number)} for number in range(step, 100))

    def notes(self):
        return {"skipped": self.skipped.indices()}

    def scalars(self, step, name, values):
        self.lines[step] = (values["loss"], values["batch"])

    def save(self, state, measured, notes):
        self.saved.append((state.step, measured, notes["skipped"]))

    def __call__(self, state, step, board):
        self.measured.append(step)
        return {"psnr": float(step)}

    def ignore(self, *arguments):
        """A call that changes nothing here."""

    code_use = before = after = stop = beat = ignore


def counted(monkeypatch, first: int = 0, stop: int | None = None, **changes) -> Noted:
    """What a loop did from step `first` on."""
    noted = Noted()
    noted.skipped.add(5, "damaged")

    def begin(parts, mesh, state, batches):
        noted.kmeans.append(state.step)
        return state

    monkeypatch.setattr("glc_jax.training.loop.initialise_codebooks", begin)
    fields = {"steps": 6, "log_every": 2, "checkpoint": Checkpoint(every=3), "batch": 1, **changes}
    config = Config(codebook=Codebook(kmeans_step=1), **fields)
    run = Counting(
        parts=SimpleNamespace(config=config),
        mesh=sharding.make_mesh(1, 1, 1),
        frozen={},
        batches=noted,
        evaluators=noted,
        kept=noted,
        boards=noted,
        ledger=Ledger({}),
        profiler=noted,
        watchdog=noted,
    )
    state = run(SimpleNamespace(step=first, code_use={}), lambda step: step == stop)
    noted.last = state.step
    return noted


def test_each_line_has_the_means_of_its_own_steps(monkeypatch):
    noted = counted(monkeypatch, eval=Evaluation(every=0))
    assert noted.lines == {2: (1.5, 0.5), 4: (3.5, 2.5), 6: (5.5, 4.5)}
    assert noted.measured == []
    assert noted.saved == [(3, None, [5]), (6, None, [5])]
    assert noted.kmeans == [1]
    assert noted.last == 6


def test_what_was_measured_is_saved_with_the_very_step(monkeypatch):
    noted = counted(monkeypatch, steps=7, eval=Evaluation(every=2), log_every=0)
    assert noted.measured == [2, 4, 6, 7]
    saved = [(3, None, [5]), (6, {"psnr": 6.0}, [5]), (7, {"psnr": 7.0}, [5])]
    assert noted.saved == saved
    assert noted.lines == {}


def test_a_resumed_loop_goes_on_with_the_next_batch_and_a_stopped_one_saves(monkeypatch):
    noted = counted(monkeypatch, first=3, stop=5, eval=Evaluation(every=10))
    assert noted.lines == {4: (4.0, 3.0), 5: (5.0, 4.0)}
    assert noted.saved == [(5, None, [5])]
    assert (noted.kmeans, noted.measured, noted.last) == ([], [], 5)


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
