"""What one sees of a run, and what ends one that hangs."""

import faulthandler
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

from glc_jax.training.chips import chip

HUNG = 75  # the exit code of a run that the watchdog ended: try again, as in sysexits.h


class Ledger:
    """Where a run's time goes, since it first began and over all its restarts.

    began: Unix time of the very first start. productive: seconds of the steps that count, which
    are those of earlier parts up to the checkpoint that was resumed, and all since. lost: seconds
    of this part by what they were spent on.
    """

    def __init__(self, notes: Mapping[str, Any], now: Callable[[], float] = time.time):
        self.now = now
        self.began = notes.get("began", now())
        self.productive = notes.get("productive", 0.0)
        self.lost = {"waiting": 0.0, "compiling": 0.0, "evaluating": 0.0, "saving": 0.0}
        self.restart()

    @contextmanager
    def spent(self, on: str) -> Iterator[None]:
        """Around what is not a step."""
        before = self.now()
        yield
        self.lost[on] += self.now() - before

    def restart(self) -> None:
        """Begin a stretch of steps."""
        self.started, self.steps, self.before = self.now(), 0, dict(self.lost)

    def _stretch(self) -> tuple[float, float]:
        """Seconds of this stretch without what was not a step, and those of them spent waiting."""
        spent = {name: self.lost[name] - self.before[name] for name in self.lost}
        waiting = spent.pop("waiting")
        return max(self.now() - self.started - sum(spent.values()), 1e-9), waiting

    def read(self, batch: int, flops: float | None = None) -> dict[str, float]:
        """The speed of this stretch, which ends, and the sums so far.

        steps_per_second, images_per_second, images_per_second_per_chip, data_wait (a share);
        mfu, the share of the chip's peak, where `flops`, those of a step on one device, and the
        peak are known; goodput, the share of the time since the run began that went into steps
        that count; memory_gb; seconds_compiling and so on, of this part of the run.
        """
        busy, waiting = self._stretch()
        rate = self.steps / busy
        self.productive = self.notes()["productive"]
        known = chip(jax.devices()[0].device_kind)
        share = {"mfu": flops * rate / known.flops} if flops and known else {}
        speed = {
            "steps_per_second": rate,
            "images_per_second": rate * batch,
            "images_per_second_per_chip": rate * batch / jax.device_count(),
            "data_wait": min(waiting / busy, 1.0),
            **share,
            "goodput": min(self.productive / max(self.now() - self.began, 1e-9), 1.0),
            "memory_gb": memory_in_use() / 1e9,
            **{f"seconds_{name}": value for name, value in self.lost.items() if name != "waiting"},
        }
        self.restart()
        return speed

    def notes(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        busy, waiting = self._stretch()
        productive = self.productive + (max(busy - waiting, 0.0) if self.steps else 0.0)
        return {"began": self.began, "productive": productive}


def memory_in_use() -> int:
    """Bytes held: of the first device where it tells, otherwise of this process at its peak."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_in_use" in stats:
        return stats["bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def progress_line(step: int, steps: int, speed: Mapping[str, float], metrics: Mapping) -> str:
    """One line for the log: step, speed, then every metric by name."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    mfu = f"  mfu {speed['mfu']:.1%}" if "mfu" in speed else ""
    return (
        f"step {step}/{steps}  {speed['steps_per_second']:.3g} steps/s  "
        f"{speed['images_per_second']:.4g} images/s  wait {speed['data_wait']:.0%}{mfu}  "
        f"goodput {speed['goodput']:.0%}  {values}"
    )


class Watchdog:
    """Ends the process with code `HUNG`, and every thread's stack on stderr, when it hangs.

    It hangs when `seconds` pass without a `beat`; 0: never. A supervisor starts it again.
    """

    def __init__(self, seconds: float, end: Callable[[int], Any] = os._exit):
        self.seconds, self.end = seconds, end
        self.last, self.stopped = time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        if seconds:
            self.thread.start()

    def beat(self) -> None:
        """The run goes on."""
        self.last = time.monotonic()

    def stop(self) -> None:
        self.stopped.set()

    def _watch(self) -> None:
        while not self.stopped.wait(min(self.seconds / 4, 10)):
            if time.monotonic() - self.last > self.seconds:
                minutes = self.seconds / 60
                print(f"No step for {minutes:.3g} minutes; the stacks:", file=sys.__stderr__)
                faulthandler.dump_traceback(file=sys.__stderr__)
                self.end(HUNG)
                return
