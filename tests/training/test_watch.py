"""Where the time goes, over restarts too; what ends a run that hangs; boards; a trace."""

import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from glc_jax.errors import ConfigError
from glc_jax.training import boards, chips, watch
from glc_jax.training.config import Config, Profile
from glc_jax.training.profile import Profiler
from tests.conftest import REPOSITORY


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float):
        self.time = now

    def __call__(self) -> float:
        return self.time


def stretch(ledger: watch.Ledger, clock: Clock, steps: int) -> None:
    """Steps of a second each, after a second of waiting for each, and one compilation."""
    with ledger.spent("compiling"):
        clock.time += 8
    for _ in range(steps):
        with ledger.spent("waiting"):
            clock.time += 1
        clock.time += 1
        ledger.steps += 1


def test_the_ledger_tells_steps_from_all_else(monkeypatch):
    clock = Clock(1000.0)
    ledger = watch.Ledger({}, clock)
    stretch(ledger, clock, 4)
    kind = types.SimpleNamespace(device_kind="TPU v4", memory_stats=lambda: {"bytes_in_use": 3e9})
    monkeypatch.setattr(jax, "devices", lambda: [kind])
    monkeypatch.setattr(jax, "local_devices", lambda: [kind])
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    read = ledger.read(batch=6, flops=275e12)
    assert read["steps_per_second"] == 0.5
    assert read["images_per_second"] == 3.0
    assert read["images_per_second_per_chip"] == 1.5
    assert read["data_wait"] == 0.5
    assert read["mfu"] == 0.5
    assert read["goodput"] == 4 / 16
    assert read["seconds_compiling"] == 8
    assert read["memory_gb"] == 3
    clock.time += 2
    ledger.steps += 1
    again = ledger.read(batch=6)
    assert (again["steps_per_second"], again["data_wait"]) == (0.5, 0)
    assert "mfu" not in again


def test_goodput_goes_on_over_a_restart_and_forgets_what_was_lost():
    clock = Clock(1000.0)
    first = watch.Ledger({}, clock)
    stretch(first, clock, 4)
    notes = first.notes()
    assert notes == {"began": 1000.0, "productive": 4.0}
    stretch(first, clock, 50)  # lost: no checkpoint was written after it
    clock.time = 1100.0
    second = watch.Ledger(notes, clock)
    stretch(second, clock, 16)
    assert second.read(1)["goodput"] == pytest.approx((4 + 16) / (clock.time - 1000))


def test_a_run_that_hangs_is_ended_and_one_that_goes_on_is_not():
    ended = []
    hanging = watch.Watchdog(0.2, ended.append)
    going = watch.Watchdog(60.0, lambda code: ended.append("the wrong one"))
    going.last = 0.0
    going.beat()
    assert time.monotonic() - going.last < 60
    hanging.thread.join(20)
    going.stop()
    assert ended == [watch.HUNG]
    assert not watch.Watchdog(0, ended.append).thread.is_alive()


def test_the_watchdogs_last_words_are_the_stacks():
    program = (
        "import time; from glc_jax.training.watch import Watchdog\n"
        "def stuck():\n    time.sleep(60)\n"
        "Watchdog(0.2); stuck()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == watch.HUNG
    assert "in stuck" in done.stderr


class Noted:
    """A board of one's own."""

    def __init__(self, workdir, config):
        self.seen = []

    def scalars(self, step, values):
        self.seen.append((step, values))

    def picture(self, step, name, picture):
        self.seen.append((step, name, picture.shape))

    def histogram(self, step, name, values):
        self.seen.append((step, name, values.round(2).tolist()))

    def close(self):
        self.seen.append("closed")


def show(opened: boards.Boards) -> None:
    opened.scalars(3, "train", {"l1": 0.5})
    originals = np.zeros((3, 4, 5, 3), np.uint8)
    opened.pictures(3, originals, {"rate_0": originals})
    opened.code_use(3, {"a/codebook": np.array([0.05, 0.5])})
    opened.close()


def test_a_board_of_ones_own(tmp_path):
    opened = boards.open_boards(Config(boards=("tests.training.test_watch:Noted",)), tmp_path)
    show(opened)
    assert opened.boards[0].seen == [
        (3, {"train/l1": 0.5}),
        (3, "pictures/original_rate_0", (8, 15, 3)),
        (3, "code_use/a/codebook", [-1.0, 0.0]),
        "closed",
    ]
    with pytest.raises(ConfigError, match="no board 'chalk'"):
        boards.open_boards(Config(boards=("chalk",)), tmp_path)


def test_tensorboard_and_weights_and_biases_take_all_of_it(tmp_path, monkeypatch):
    logged = []
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, *values)), finish=lambda: logged.append("end")
    )
    module = types.ModuleType("wandb")
    known = {"project": "glc_jax", "name": "run", "id": "run", "resume": "allow"}

    def init(config, **fields):
        assert fields == known  # so that the workdir's run goes on
        logged.append(config["name"])
        return run

    module.init = init
    module.Image = module.Histogram = lambda value: value
    monkeypatch.setitem(sys.modules, "wandb", module)
    workdir = epath.Path(tmp_path / "run")
    show(boards.open_boards(Config(name="tiny", boards=("tensorboard", "wandb")), workdir))
    events = list((workdir / "tensorboard").glob("events*"))
    assert events[0].stat().length > 200
    names = ["train/l1", "pictures/original_rate_0", "code_use/a/codebook"]
    assert logged == ["tiny", *((3, name) for name in names), "end"]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        boards.open_boards(Config(boards=("wandb",)), workdir)


def test_in_a_bucket_tensorboards_file_is_copied_every_few_minutes_and_at_the_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(boards.address, "is_address", lambda path: True)
    board = boards.TensorBoard(epath.Path(tmp_path), Config())

    def copied() -> int:
        return sum(path.stat().st_size for path in tmp_path.rglob("events*"))

    board.scalars(1, {"l1": 0.5})
    assert copied() == 0
    board.copied -= boards.COPY_SECONDS + 1
    board.scalars(2, {"l1": 0.5})
    first = copied()
    assert first > 0
    board.scalars(3, {"l1": 0.5})
    assert copied() == first
    board.close()
    assert copied() > first


def test_a_trace_of_the_steps_that_were_asked_for(tmp_path):
    profiler, step = Profiler(Profile(start=1, steps=2), epath.Path(tmp_path)), jax.jit(jnp.sin)
    traced = []
    for number in range(5):
        profiler.before(number)
        value = step(jnp.float32(number))
        traced.append(profiler.scratch is not None)
        profiler.after(number + 1, value)
    assert traced == [False, True, True, False, False]
    none = Profiler(Profile(start=1, steps=0), epath.Path(tmp_path))
    none.before(1)
    assert none.scratch is None
    written = [path for path in (tmp_path / "profile").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".xplane.pb") for path in written)


def test_the_chips_figures_go_by_jax_names():
    assert chips.chip("TPU v5 lite").flops == 197e12
    assert chips.chip("TPU v4").link == 150e9
    assert chips.chip("cpu") is None
