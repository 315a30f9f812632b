"""What E and G run on: XLA, or on a CPU OpenVINO, which is quicker, where it is installed.

An engine runs functions `function(fixed, params, *arrays)`: fixed is hashable and decides what is
computed, params are the weights, arrays a tree of arrays. Their results are read by `np.asarray`,
which waits for them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import memory, program_store
from glc_jax.errors import ConfigError, InputError

XLA, OPENVINO = "xla", "openvino"

KEPT_BYTES = 3 * 2**29
"""What the programs of an engine may take together, about: their machine code and their weights."""

STAGE_OPERATIONS = 112
"""Operations of OpenVINO's for a stage of a network, at most, where its maps are in columns."""

COLUMNS = 4
"""In how many maps OpenVINO keeps the columns of wide maps (`openvino_columns`)."""


class Engine(Protocol):
    """What runs functions. dtype: what convolutions are computed in; None: the parameters'."""

    name: str
    dtype: Any

    def run(self, function: Callable[..., Any], fixed: Hashable, params: Any, *arrays: Any) -> Any:
        """The function's result, perhaps before it is computed."""

    def prepare(
        self, function: Callable[..., Any], fixed: Hashable, params: Any, *shapes: Any
    ) -> None:
        """What `run` will be asked for soon, with shapes and dtypes in place of arrays."""

    def rest(self) -> None:
        """Lets go of what is only needed while functions run."""

    def forget(self) -> None:
        """Lets go of programs as well, which take memory too; they are made again when needed."""

    def keep(self, most: int) -> int:
        """Keeps programs of at most so many bytes from now on, and says of how many."""

    def program_bytes(self, stages: int, weight_bytes: int) -> int:
        """What a program takes while it rests, of so many stages of a network."""


def choose(name: str | None, fast: bool) -> Engine:
    """The engine of a name; None: OpenVINO on a CPU where it is installed, or else XLA.

    fast: in bfloat16, where the machine has instructions for it.

    Raises InputError where there is no such engine, or it is not installed or not faster here.
    """
    on_cpu = jax.default_backend() == "cpu"
    if name is None and on_cpu and importlib.util.find_spec("openvino"):
        if fast:
            return OpenVINO(fast)
        with contextlib.suppress(InputError):  # it is there and cannot be imported
            return OpenVINO(fast, otherwise=OnXLA())
    if name == OPENVINO:
        return OpenVINO(fast)
    name = name or XLA
    if name != XLA:
        raise InputError(f"There is no engine {name!r}: {XLA} or {OPENVINO}.")
    if fast and on_cpu:
        raise InputError(
            "The fast mode needs OpenVINO on a CPU, since XLA is no faster there: "
            "pip install 'glc-jax[fast]'."
        )
    return OnXLA(jnp.bfloat16 if fast else None)


class OnXLA:
    """Functions compiled by XLA, whose programs all engines share."""

    name = XLA

    def __init__(self, dtype: Any = None) -> None:
        self.dtype = dtype

    def run(self, function: Callable[..., Any], fixed: Hashable, params: Any, *arrays: Any) -> Any:
        return _jitted(function)(fixed, params, *arrays)

    def prepare(
        self, function: Callable[..., Any], fixed: Hashable, params: Any, *shapes: Any
    ) -> None:
        pass

    def rest(self) -> None:
        pass

    def forget(self) -> None:
        pass  # XLA's are all its users'

    def keep(self, most: int) -> int:
        return 0  # what they take is not of note

    def program_bytes(self, stages: int, weight_bytes: int) -> int:
        return 0


@functools.cache
def _jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, static_argnums=0)


class _Kept(NamedTuple):
    """A program on its way, the tree of its results, what it takes while it rests, and its weights,
    whose ids stay theirs."""

    program: Future
    results: Any
    bytes_held: int
    params: Any


class OpenVINO:
    """Functions compiled by OpenVINO; its programs hold their weights.

    They are compiled and run one after another in a thread of their own, so that the caller can
    prepare what comes next meanwhile. Those of this package's functions are kept on disk where JAX
    keeps its own (`program_store`), and found there by the next process.

    Args:
      fast: see `choose`.
      otherwise: what runs functions that cannot be translated, as another release of JAX may trace
        them, or that OpenVINO fails to run; None: `ConfigError`.
    """

    name, dtype = OPENVINO, None

    def __init__(self, fast: bool, otherwise: Engine | None = None) -> None:
        from glc_jax import openvino_program

        openvino_program.require()
        self._fast, self._otherwise, self._kept_bytes = fast, otherwise, KEPT_BYTES
        self._programs: OrderedDict[Any, _Kept] = OrderedDict()
        self._unsaved: list[tuple[program_store.ProgramStore, str, Future]] = []
        self._thread = ThreadPoolExecutor(1, "glc-openvino")

    def prepare(
        self, function: Callable[..., Any], fixed: Hashable, params: Any, *shapes: Any
    ) -> None:
        with contextlib.suppress(ConfigError):  # which `run` will tell
            self._kept(function, fixed, params, shapes)

    def run(self, function: Callable[..., Any], fixed: Hashable, params: Any, *arrays: Any) -> Any:
        arrays = jax.tree.map(np.asarray, arrays)
        try:
            kept = self._kept(function, fixed, params, arrays)
        except ConfigError as error:
            return self._instead(error).run(function, fixed, params, *arrays)

        def compute() -> list[np.ndarray]:
            try:
                return kept.program.result()(*jax.tree.leaves(arrays))
            except RuntimeError as error:
                reason = f"OpenVINO failed: {str(error).splitlines()[0]}."
                found = self._instead(ConfigError(reason)).run(function, fixed, params, *arrays)
                return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]

        future = self._thread.submit(compute)
        while self._unsaved:
            _saving.append(self._thread.submit(_save, *self._unsaved.pop()))
        count = kept.results.num_leaves
        return jax.tree.unflatten(kept.results, [_Result(future, i) for i in range(count)])

    def rest(self) -> None:
        for kept in self._programs.values():
            if kept.program.done() and kept.program.exception() is None:
                kept.program.result().rest()
        memory.give_back()

    def forget(self) -> None:
        self._programs.clear()
        memory.give_back()

    def keep(self, most: int) -> int:
        self._kept_bytes = min(most, KEPT_BYTES)
        return self._kept_bytes

    def program_bytes(self, stages: int, weight_bytes: int) -> int:
        from glc_jax import openvino_program

        return openvino_program.held_by(STAGE_OPERATIONS * stages, weight_bytes)

    def _instead(self, error: ConfigError) -> Engine:
        """What runs a function that OpenVINO does not, or the error."""
        if self._otherwise is None:
            raise error
        warnings.warn(f"{error} XLA computes it, which takes longer.", stacklevel=3)
        return self._otherwise

    def _kept(self, function, fixed, params, arrays) -> _Kept:
        """The program for arrays of these shapes; those that were not used for longest go."""
        leaves, given = jax.tree.flatten(arrays)
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        of = tuple(id(leaf) for leaf in jax.tree.leaves(params))
        key = (function, fixed, of, given, *((one.shape, one.dtype.name) for one in shapes))
        if key not in self._programs:
            self._programs[key] = self._made(function, fixed, params, given, shapes)
        self._programs.move_to_end(key)
        kept = self._programs[key]
        while len(self._programs) > 1 and self._bytes_held() > self._kept_bytes:
            self._programs.popitem(last=False)
        return kept

    def _bytes_held(self) -> int:
        return sum(kept.bytes_held for kept in self._programs.values())

    def _made(self, function, fixed, params, given, shapes) -> _Kept:
        from glc_jax import openvino_program

        def of_leaves(*leaves: jax.Array) -> Any:
            return function(fixed, params, *jax.tree.unflatten(given, leaves))

        def traced() -> openvino_program.Traced:
            return openvino_program.trace(of_leaves, shapes, columns=COLUMNS)

        store, key = program_store.beside_jax(), None
        if store is not None:
            arrays, made_for = jax.tree.unflatten(given, shapes), self._compiled_for
            key = program_store.key(function, fixed, params, arrays, *made_for)
        if key is not None and (stored := store.load(key)) is not None:

            def restored() -> openvino_program.Program:
                try:
                    return openvino_program.restored(stored, self._fast)
                except RuntimeError:
                    store.remove(key)
                    return traced().compile(self._fast)

            held = openvino_program.bytes_held(stored)
            return _Kept(self._thread.submit(restored), _ONE_RESULT, held, params)
        made = traced()
        program = self._thread.submit(made.compile, self._fast)
        small = made.weight_bytes <= program_store.MOST_BYTES  # exporting takes memory too
        if key is not None and small and made.results == _ONE_RESULT:
            self._unsaved.append((store, key, program))
        return _Kept(program, made.results, made.bytes_held, params)

    @functools.cached_property
    def _compiled_for(self) -> tuple[str, ...]:
        from glc_jax import openvino_program

        return openvino_program.compiled_for(self._fast)


_ONE_RESULT = jax.tree.structure(0)

_saving: list[Future] = []
"""Programs on their way to the disk."""


def _save(store: program_store.ProgramStore, key: str, program: Future) -> None:
    if program.exception() is None:
        with contextlib.suppress(RuntimeError):  # not every program can be exported
            store.save(key, program.result().stored())


def finish() -> None:
    """Waits for what is being written, for a process that is about to end at once."""
    while _saving:
        _saving.pop().exception()


class _Result:
    """An array that a program will have given."""

    def __init__(self, future: Future, number: int) -> None:
        self._future, self._number = future, number

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._future.result()[self._number], dtype)
