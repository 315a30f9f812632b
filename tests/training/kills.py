"""Program: a run of the toy stage, killed at random moments, against one that was not.

    python -m tests.training.kills 20 [--bucket] [--seed 0]

starts scripts/train.py again and again and kills it (SIGKILL) while it starts or some steps later,
as often as asked; then lets it end. Fails where the last state differs in a bit.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

import chex
from etils import epath

from glc_jax.training.config import plain
from tests.conftest import REPOSITORY
from tests.training import bucket, small, toy

STEPS_A_KILL = 8
EVERY = 2  # steps between checkpoints
STEP, RESUMED = re.compile(r" step \d+/"), re.compile(r" Resumed at step (\d+)")
CONFIG_FILE = """
import json, pathlib
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(json.loads(pathlib.Path(__file__).with_suffix(".json").read_text()))
"""


@dataclasses.dataclass
class Result:
    """Of a run that was killed: how often, and the steps at which it was resumed."""

    kills: int = 0
    resumed: list[int] = dataclasses.field(default_factory=list)


def prepare(place: pathlib.Path, steps: int) -> dict:
    """The last state of a run that was let be, and in the empty folder `place` what it needed."""
    config = toy.config(place, steps=steps, log_every=1)
    config["checkpoint"]["every"] = EVERY
    config["eval"]["every"] = 10
    (place / "toy.json").write_text(json.dumps(plain(config)))
    (place / "toy.py").write_text(CONFIG_FILE)
    finish(start(place, epath.Path(place / "whole")), Result())
    return small.saved_state(epath.Path(place / "whole"))


def killed_run(kills: int, place: pathlib.Path, workdir: epath.Path, seed: int = 0) -> Result:
    """The run that `prepare` wrote down in `place`, in `workdir`, killed `kills` times.

    It is killed less often where it comes to its end before.
    """
    rng, result = random.Random(seed), Result()
    while result.kills < kills and kill_once(start(place, workdir), rng, result):
        result.kills += 1
    finish(start(place, workdir), result)
    return result


def start(place: pathlib.Path, workdir: epath.Path) -> subprocess.Popen:
    """The training command, just started."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "scripts/train.py", "--config", str(place / "toy.py")]
    return subprocess.Popen(
        [*command, "--workdir", str(workdir)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_once(run: subprocess.Popen, rng: random.Random, result: Result) -> bool:
    """Kill the run while it starts or after some steps; whether it was still going."""
    steps = rng.randrange(6)
    if steps:
        watch(run, result, steps).wait()
    time.sleep(rng.uniform(0, 0.3 if steps else 5))
    run.kill()
    assert run.wait() in (0, -9), f"the run failed with {run.returncode}"
    return run.returncode == -9


def finish(run: subprocess.Popen, result: Result) -> None:
    """Wait for the run's end."""
    watch(run, result, sys.maxsize).wait()
    assert run.wait() == 0, f"the run failed with {run.returncode}"


def watch(run: subprocess.Popen, result: Result, steps: int) -> threading.Event:
    """Reads what the run prints; the event is set after so many steps, or at its end."""
    reached = threading.Event()

    def read() -> None:
        seen = 0
        for line in run.stdout:
            if match := RESUMED.search(line):
                result.resumed.append(int(match.group(1)))
            seen += bool(STEP.search(line))
            if seen == steps:
                reached.set()
        reached.set()

    threading.Thread(target=read, daemon=True).start()
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--bucket", action="store_true", help="the run lies in an emulated bucket")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kills, seed = arguments.kills, arguments.seed
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = pathlib.Path(folder)
        whole = prepare(place, STEPS_A_KILL * (kills + 1))
        runs = epath.Path(stack.enter_context(bucket.served()) if arguments.bucket else place)
        result = killed_run(kills, place, runs / "killed", seed)
        chex.assert_trees_all_equal(small.saved_state(runs / "killed"), whole)
    print(f"Killed {result.kills} times, resumed at {result.resumed}: equal bit for bit.")


if __name__ == "__main__":
    main()
