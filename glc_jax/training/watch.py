"""What one sees of a run: progress lines, TensorBoard, and the stop when one diverges."""

import logging
import math
import pathlib
import time
from collections.abc import Mapping

import numpy as np

from glc_jax.errors import GLCError

logger = logging.getLogger(__name__)


class Diverged(GLCError):
    """A loss was NaN or infinite; the message names the step and the loss."""


def check_finite(step: int, metrics: Mapping[str, float]) -> None:
    """Raises `Diverged` unless every metric of step `step` is finite."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        # The total and the gradient follow from the losses, so the culprit is named first.
        bad.sort(key=lambda name: name in ("loss", "gradient_norm"))
        others = f" (and {', '.join(bad[1:])})" if bad[1:] else ""
        raise Diverged(
            f"Step {step}: {bad[0]} is {metrics[bad[0]]}{others}. The run stopped; the last good "
            "checkpoint is kept."
        )


class Clock:
    """Measures a stretch of steps: how fast, and how much of the time went to waiting for data."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self.started = time.perf_counter()
        self.steps = 0
        self.waited = 0.0

    def read(self, batch: int) -> dict[str, float]:
        """steps_per_second, images_per_second and data_wait (a share) since the restart."""
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        return {
            "steps_per_second": self.steps / elapsed,
            "images_per_second": self.steps * batch / elapsed,
            "data_wait": self.waited / elapsed,
        }


def progress_line(step: int, steps: int, speed: Mapping[str, float], metrics: Mapping) -> str:
    """One line for the log: step, speed, then every metric by name."""
    values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return (
        f"step {step}/{steps}  {speed['steps_per_second']:.3g} steps/s  "
        f"{speed['images_per_second']:.4g} images/s  wait {speed['data_wait']:.0%}  {values}"
    )


class Board:
    """TensorBoard event files in `workdir`/tensorboard; silent on all hosts but the first."""

    def __init__(self, workdir: pathlib.Path, active: bool):
        self.writer = None
        if active:
            import tensorboardX

            self.writer = tensorboardX.SummaryWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, prefix: str, values: Mapping[str, float]) -> None:
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def pictures(
        self, step: int, originals: np.ndarray, reconstructions: Mapping[str, np.ndarray]
    ) -> None:
        """Rows of uint8 pictures [n, H, W, 3]: the originals above each reconstruction."""
        if self.writer:
            rows = [originals, *reconstructions.values()]
            sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
            title = "_".join(["original", *reconstructions])
            self.writer.add_image(f"pictures/{title}", sheet, step, dataformats="HWC")

    def code_use(self, step: int, uses: Mapping[str, np.ndarray]) -> None:
        """Histograms of log10(share * K): 0 is even use."""
        if self.writer:
            for path, use in uses.items():
                relative = np.log10(np.maximum(np.asarray(use) * len(use), 1e-6))
                self.writer.add_histogram(f"code_use/{path}", relative, step)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
