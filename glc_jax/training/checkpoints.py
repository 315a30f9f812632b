"""Saving and resuming with Orbax: asynchronous, the last few and the best, whole or not at all."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orbax.checkpoint as ocp
from etils import epath
from jax.tree_util import tree_leaves_with_path, tree_map_with_path
from orbax.checkpoint.checkpoint_managers import preservation_policy

from glc_jax.data import address
from glc_jax.errors import ConfigError
from glc_jax.training.config import Config, plain, read
from glc_jax.training.saved import NOTES, STATE, Reader, path_of
from glc_jax.training.state import TrainState
from glc_jax.weights import unflatten

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


def checkpoint_folder(workdir: epath.PathLike) -> epath.Path:
    """Where a run's checkpoints lie: a folder, or in a bucket."""
    folder = epath.Path(workdir) / "checkpoints"
    return folder if "://" in str(folder) else folder.absolute()


class Checkpoints:
    """The checkpoints of one run, below `workdir`/checkpoints.

    A checkpoint is a TrainState. `keep` is how many of the last ones stay; the one with the lowest
    evaluation metric `best` stays as well.
    """

    def __init__(self, workdir: epath.PathLike, keep: int, best: str):
        self.folder = checkpoint_folder(workdir)
        address.refresh(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.damaged: set[int] = set()  # steps whose checkpoint could not be read
        self._warn_of_unfinished()
        self.manager = ocp.CheckpointManager(
            self.folder,
            item_names=(STATE, NOTES),
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

    def save(
        self,
        state: TrainState,
        metrics: Mapping[str, float] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Save in the background.

        metrics: of an evaluation at this very step. notes: what else a resumed run has to know,
        the same on every host; it is written as JSON.
        """
        step = int(state.step)
        if step in self.damaged:
            self.manager.delete(step)
            self.damaged.remove(step)
        elif step in self.manager.all_steps():
            return
        saved = ocp.args.Composite(
            state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(dict(notes or {}))
        )
        self.manager.save(step, args=saved, metrics=dict(metrics) if metrics else None, force=True)

    def restore(
        self, placed: TrainState, begin: Callable[[Any], TrainState] | None = None
    ) -> TrainState | None:
        """The newest whole checkpoint in the shapes and shardings of `placed`, or None.

        A checkpoint that cannot be read is passed over with a warning, and stays until the run
        comes to the same step again and saves it anew. Where one lacks a part of the state, that
        part is taken from `begin` of its parameters, and a warning says so. Raises `ConfigError`
        where there are checkpoints but none can be read.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self.restore_step(step, placed, begin)
            except UNREADABLE as error:
                logger.warning(
                    "Ignored checkpoint %s, which cannot be read: %s", step, _line(error)
                )
                self.damaged.add(step)
        if steps:
            raise ConfigError(
                f"No checkpoint in {self.folder} can be read; move the folder away to start anew."
            )
        return None

    def restore_step(
        self, step: int, placed: TrainState, begin: Callable[[Any], TrainState] | None = None
    ) -> TrainState:
        """The checkpoint of one step; see `restore`."""
        wanted = {path_of(keys): leaf for keys, leaf in tree_leaves_with_path(placed)}
        with Reader(self.folder) as reader:
            saved = reader.shapes(step)
            fits = {
                path
                for path in wanted.keys() & saved.keys()
                if wanted[path].shape == saved[path].shape
            }
            read = reader.read(step, {path: wanted[path] for path in fits})
        missing, dropped = wanted.keys() - fits, saved.keys() - fits
        if missing:
            if begin is None or any(path.startswith("params/") for path in missing):
                raise ValueError(f"it has no {min(missing)} of this shape")
            params = tree_map_with_path(
                lambda keys, _: read[f"params/{path_of(keys)}"], placed.params
            )
            read |= {
                path_of(keys): leaf
                for keys, leaf in tree_leaves_with_path(begin(params))
                if path_of(keys) in missing
            }
        if missing or dropped:
            logger.warning(
                "Checkpoint %s is of a run with other parts. Begun anew: %s. Dropped: %s.",
                *(step, _summary(missing), _summary(dropped)),
            )
        return tree_map_with_path(lambda keys, _: read[path_of(keys)], placed)

    def notes(self, step: int) -> dict[str, Any]:
        """The notes of one step's checkpoint; {} where it was saved without."""
        if not (self.folder / str(step) / NOTES).exists():
            return {}
        read = ocp.args.Composite(notes=ocp.args.JsonRestore())
        return self.manager.restore(step, args=read)[NOTES]

    def close(self) -> None:
        """Wait for what is being written."""
        self.manager.wait_until_finished()
        self.manager.close()


def averaged_parameters(workdir: epath.PathLike, step: int | None = None) -> dict[str, Any]:
    """The EMA parameters (numpy tree) of a run's newest whole checkpoint, or of `step`.

    Raises `ConfigError` when there is none that can be read.
    """
    folder = checkpoint_folder(workdir)
    if not folder.is_dir():
        raise ConfigError(f"{workdir} holds no checkpoint.")
    with Reader(folder) as reader:
        found = [number for number in reader.steps() if step in (None, number)]
        if not found:
            raise ConfigError(f"{workdir} holds no checkpoint{f' of step {step}' if step else ''}.")
        for number in found:
            try:
                saved = reader.shapes(number)
                wanted = {path for path in saved if path.startswith(("params/", "ema/"))}
                read = reader.read(number, {path: saved[path] for path in wanted})
            except UNREADABLE as error:
                logger.warning("Ignored checkpoint %s of %s: %s", number, workdir, _line(error))
                continue
            last = sorted(read, key=lambda path: path.startswith("ema/"))
            return unflatten({path.partition("/")[2]: read[path] for path in last})
    raise ConfigError(f"No checkpoint of {workdir} can be read.")


def _summary(paths: Iterable[str]) -> str:
    """The first parts of paths, such as "discriminator, ema"."""
    return ", ".join(sorted({path.split("/")[0] for path in paths})) or "nothing"


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def write_config(workdir: epath.Path, config: Config) -> None:
    """Note the run's config beside its checkpoints."""
    text = json.dumps(plain(config), indent=1, sort_keys=True)
    (workdir / CONFIG_FILE).write_text(text + "\n")


def read_config(workdir: epath.PathLike) -> Config | None:
    """The config that a run was started with; None where `workdir` holds no run.

    Fields that the release which wrote it did not have get their defaults.
    """
    file = epath.Path(workdir) / CONFIG_FILE
    try:
        return read(json.loads(file.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ConfigError(f"{file} is damaged: {error}") from error
