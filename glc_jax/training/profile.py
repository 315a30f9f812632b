"""A trace of a few steps for TensorBoard's profiler (xprof)."""

import logging
import os
import pathlib
import tempfile
from typing import Any

import jax
from etils import epath

from glc_jax.training.config import Profile

logger = logging.getLogger(__name__)


class Profiler:
    """Traces the steps from `fields.start` on; what it writes is in WORKDIR/profile."""

    def __init__(self, fields: Profile, workdir: epath.Path):
        self.fields, self.target = fields, workdir / "profile"
        self.scratch: tempfile.TemporaryDirectory | None = None

    def before(self, step: int) -> None:
        """To be called before the step that follows on `step` steps done."""
        if step == self.fields.start and self.fields.steps > 0:
            self.scratch = tempfile.TemporaryDirectory()
            jax.profiler.start_trace(self.scratch.name)

    def after(self, step: int, metrics: Any) -> None:
        """To be called after it, with `step` steps done now."""
        if self.scratch and step >= self.fields.start + self.fields.steps:
            jax.block_until_ready(metrics)
            self.stop()

    def stop(self) -> None:
        """Write what has been traced so far, if anything."""
        if not self.scratch:
            return
        jax.profiler.stop_trace()
        for folder, _, names in os.walk(self.scratch.name):
            inside = pathlib.Path(folder).relative_to(self.scratch.name)
            (self.target / inside).mkdir(parents=True, exist_ok=True)
            for name in names:
                data = (pathlib.Path(folder) / name).read_bytes()
                (self.target / inside / name).write_bytes(data)
        self.scratch.cleanup()
        self.scratch = None
        logger.info("Traced %d steps: tensorboard --logdir %s", self.fields.steps, self.target)
