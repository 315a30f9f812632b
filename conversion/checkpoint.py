"""What is in a checkpoint file: unwrapping its nesting, and matching its tensors with a table."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from glc_jax.errors import WeightsError

from . import safetensors_file, torch_file
from .official import Entry

# Under which keys released files keep their state dict, the preferred one first.
WRAPPERS = ("state_dict", "net", "net_g", "params_ema", "params")
DISCRIMINATOR = "params_d"
PARALLEL_PREFIX = "module."  # of torch.nn.DataParallel

FLOATS = tuple(
    torch_file.STORAGE_DTYPES[f"{name}Storage"] for name in ("Float", "Double", "Half", "BFloat16")
)

State = dict[str, np.ndarray]


class Found(NamedTuple):
    """A state dict in a checkpoint.

    route: the keys under which it lay, and "module." if its names had that prefix.
    """

    route: tuple[str, ...]
    state: State


class Unwrapped(NamedTuple):
    """The state dicts of a checkpoint, and one line for each thing left beside them."""

    found: list[Found]
    aside: list[str]


def read(path: str | os.PathLike) -> Any:
    """The object in a file of `torch.save`, or the tensors of a safetensors file by name.

    Raises WeightsError.
    """
    return (safetensors_file if str(path).endswith(".safetensors") else torch_file).load(path)


def unwrap(checkpoint: Any) -> Unwrapped:
    """The state dicts in what a checkpoint file holds.

    Follows `WRAPPERS` in any combination and order, finds a discriminator beside them, and takes
    PARALLEL_PREFIX off names that all carry it. Raises WeightsError where there is no state dict.
    """
    found, aside, route, node = [], [], (), checkpoint
    while True:
        if not isinstance(node, dict) or not node:
            raise WeightsError(f"there is no state dict under {_path(route)}.")
        if isinstance(node.get(DISCRIMINATOR), dict):
            found.append(_found((*route, DISCRIMINATOR), node[DISCRIMINATOR], aside))
        key = next((key for key in WRAPPERS if isinstance(node.get(key), dict)), None)
        if key is None:
            break
        aside += _describe(route, {k: v for k, v in node.items() if k not in (key, DISCRIMINATOR)})
        route, node = (*route, key), node[key]
        if len(route) > len(WRAPPERS):
            raise WeightsError(f"the nesting {_path(route)} has no end.")
    if not found or any(isinstance(value, np.ndarray) for value in node.values()):
        found.append(_found(route, node, aside))
    return Unwrapped(found, aside)


def _path(route: tuple[str, ...]) -> str:
    return ".".join(route) or "the top level"


def _found(route: tuple[str, ...], node: dict, aside: list[str]) -> Found:
    state = {name: value for name, value in node.items() if isinstance(value, np.ndarray)}
    if not state or not all(isinstance(name, str) for name in state):
        raise WeightsError(
            f"there is no state dict under {_path(route)}, but {_names(map(str, node))}."
        )
    aside += _describe(route, {k: v for k, v in node.items() if k not in state})
    while all(name.startswith(PARALLEL_PREFIX) for name in state):
        state = {name.removeprefix(PARALLEL_PREFIX): value for name, value in state.items()}
        route = (*route, PARALLEL_PREFIX)
    return Found(route, state)


def _describe(route: tuple[str, ...], values: Mapping[Any, Any]) -> list[str]:
    lines = []
    for key, value in values.items():
        count = sum(1 for _ in _tensors(value, set()))
        kind = f"{count} tensors" if count else type(value).__name__
        lines.append(f"{_path((*route, str(key)))} ({kind})")
    return lines


def _tensors(value: Any, seen: set[int], depth: int = 0) -> Iterator[np.ndarray]:
    """The tensors in nested containers; a container in several places is visited once."""
    if isinstance(value, np.ndarray):
        yield value
    elif (
        isinstance(value, dict | list | tuple)
        and depth < torch_file.MAX_DIMENSIONS
        and id(value) not in seen
    ):
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, seen, depth + 1)


def _names(names: Iterator[str], limit: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def match(state: State, entries: list[Entry]) -> State:
    """Our parameters by path, as views of the arrays in `state`.

    Raises WeightsError with the full list of what is missing, unknown, of the wrong shape or no
    floating-point tensor.
    """
    problems, wanted = [], {entry.official for entry in entries}
    for entry in entries:
        array = state.get(entry.official)
        if array is None:
            problems.append(f"missing: {entry.official} {list(entry.shape)}")
        elif array.shape != entry.shape:
            problems.append(
                f"wrong shape: {entry.official} is {list(array.shape)}, not {list(entry.shape)}"
            )
        elif array.dtype not in FLOATS:
            problems.append(f"wrong type: {entry.official} is {array.dtype}")
    problems += [
        f"unknown: {name} {list(array.shape)}"
        for name, array in state.items()
        if name not in wanted
    ]
    if problems:
        raise WeightsError(
            f"the checkpoint does not have the expected {len(entries)} tensors:\n  "
            + "\n  ".join(problems)
        )
    parameters: State = {}
    for entry in entries:
        parameters |= entry.to_ours(state[entry.official])
    return parameters
