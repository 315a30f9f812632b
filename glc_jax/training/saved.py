"""What lies in a run's checkpoints: its leaves by path, read whole or in part."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.tree_util import tree_leaves_with_path, tree_map_with_path

from glc_jax.data import address

STATE, NOTES = "state", "notes"
"""The parts of a checkpoint."""


class Reader:
    """Reads the states of the checkpoints in a folder, and can tell what they hold.

    Every method may raise OSError, ValueError, KeyError or TypeError where a checkpoint is damaged.
    """

    def __init__(self, folder: epath.Path):
        address.refresh(folder)
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        handlers.add(STATE, ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
        # Not read here, but Orbax warns of what lies in a checkpoint and has no handler.
        handlers.add(NOTES, ocp.args.JsonRestore, ocp.JsonCheckpointHandler())
        options = ocp.CheckpointManagerOptions(read_only=True)
        self.manager = ocp.CheckpointManager(folder, handler_registry=handlers, options=options)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, the newest first."""
        return sorted(self.manager.all_steps(), reverse=True)

    def shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The leaves of a checkpoint's state, by path."""
        leaves = tree_leaves_with_path(self._tree(step))
        return {
            path_of(keys): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for keys, leaf in leaves
        }

    def read(self, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """The leaves at the paths of `wanted`: laid out as it says, or NumPy where it says nothing.

        A leaf that Orbax finds shorter than it should be is an error, not zeros.
        """
        tree = self._tree(step)

        def item(keys: Any, leaf: Any) -> Any:
            if path_of(keys) not in wanted:
                return ocp.PLACEHOLDER
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

        def argument(keys: Any, leaf: Any) -> ocp.RestoreArgs:
            where = wanted.get(path_of(keys))
            if where is None or where.sharding is None:
                return ocp.RestoreArgs(restore_type=np.ndarray)
            return ocp.ArrayRestoreArgs(
                sharding=where.sharding, global_shape=where.shape, dtype=where.dtype
            )

        restore = ocp.args.PyTreeRestore(
            tree_map_with_path(item, tree), restore_args=tree_map_with_path(argument, tree)
        )
        found = self.manager.restore(step, args=ocp.args.Composite(state=restore))[STATE]
        leaves = {path_of(keys): leaf for keys, leaf in tree_leaves_with_path(found)}
        return {path: leaves[path] for path in wanted}

    def _tree(self, step: int) -> Any:
        item = self.manager.item_metadata(step)[STATE]
        if item is None:
            raise KeyError("its description is missing")
        return item.tree


def path_of(keys: tuple[Any, ...]) -> str:
    """A leaf's place, the same in a TrainState and in what Orbax makes of it: "ema/g_a/kernel"."""
    parts = (getattr(k, "name", getattr(k, "key", getattr(k, "idx", None))) for k in keys)
    return "/".join(map(str, parts))
