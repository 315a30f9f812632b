"""Saving and resuming with Orbax: asynchronous, the last few and the best, whole or not at all."""

import json
import logging
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from glc_jax.errors import ConfigError
from glc_jax.training.parameters import replace
from glc_jax.training.state import TrainState

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
_STATE, _METRICS = "state", "metrics"


class Checkpoints:
    """The checkpoints of one run, below `workdir`/checkpoints.

    A checkpoint is a TrainState without the perceptual loss's constants. `keep` is how many of
    the last ones stay; the one with the lowest evaluation metric `best` stays as well.
    """

    def __init__(self, workdir: pathlib.Path, keep: int, best: str):
        self.folder = (workdir / "checkpoints").absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._warn_of_unfinished()
        self.manager = ocp.CheckpointManager(
            self.folder,
            item_names=(_STATE,),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(
                    [
                        preservation_policy.LatestN(keep),
                        preservation_policy.BestN(
                            get_metric_fn=lambda metrics: metrics.get(best, math.inf),
                            n=1,
                            reverse=True,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                best_fn=lambda metrics: metrics.get(best, math.inf),
                best_mode="min",
                enable_async_checkpointing=True,
            ),
        )

    def _warn_of_unfinished(self) -> None:
        for path in sorted(self.folder.glob("*.orbax-checkpoint-tmp*")):
            logger.warning("Ignored a checkpoint that was not finished: %s", path)

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Save in the background; `metrics` are of an evaluation at this very step."""
        step = int(state.step)
        if step in self.manager.all_steps():
            return
        saved = ocp.args.Composite(state=ocp.args.StandardSave(state.replace(perceptual=None)))
        self.manager.save(step, args=saved, metrics=dict(metrics) if metrics else None, force=True)

    def restore(self, state: TrainState) -> TrainState | None:
        """The newest whole checkpoint in the shapes and shardings of `state`, or None.

        `state` may be abstract but for `perceptual`, which is carried over. A checkpoint that
        cannot be read is passed over with a warning. Raises `ConfigError` where there are
        checkpoints but none can be read.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self.restore_step(step, state)
            except (OSError, ValueError, KeyError, TypeError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                logger.warning("Ignored checkpoint %s, which cannot be read: %s", step, reason)
        if steps:
            raise ConfigError(
                f"No checkpoint in {self.folder} can be read; move the folder away to start anew."
            )
        return None

    def restore_step(self, step: int, state: TrainState) -> TrainState:
        """The checkpoint of one step; see `restore`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state.replace(perceptual=None))
        restored = self.manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        )
        return restored[_STATE].replace(perceptual=state.perceptual)

    def close(self) -> None:
        """Wait for what is being written."""
        self.manager.wait_until_finished()
        self.manager.close()


def averaged_parameters(workdir: pathlib.Path, step: int | None = None) -> dict[str, Any]:
    """The EMA parameters (numpy tree) of a run's newest checkpoint, or of `step`.

    Raises `ConfigError` when there is none.
    """
    folder = (workdir / "checkpoints").absolute()
    if not folder.is_dir():
        raise ConfigError(f"{workdir} holds no checkpoint.")
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add(_STATE, ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
    with ocp.CheckpointManager(folder, handler_registry=handlers) as manager:
        found = step if step is not None else manager.latest_step()
        if found is None or found not in manager.all_steps():
            raise ConfigError(f"{workdir} holds no checkpoint{f' of step {step}' if step else ''}.")
        metadata = manager.item_metadata(found)[_STATE].tree
        wanted = {
            name: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
            for name, tree in metadata.items()
            if name in ("params", "ema")
        }
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        restored = manager.restore(
            found,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(wanted, restore_args=arrays, partial_restore=True)
            ),
        )[_STATE]
    return replace(restored["params"], restored["ema"])


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Note the run's config beside its checkpoints."""
    text = json.dumps(config, indent=1, sort_keys=True)
    (workdir / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The config that a run was started with; None where `workdir` holds no run."""
    try:
        return json.loads((workdir / CONFIG_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{workdir / CONFIG_FILE} is damaged: {error}") from error
