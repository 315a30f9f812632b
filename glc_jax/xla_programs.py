"""Functions that XLA compiles, whose programs outlive the process on a CPU.

JAX too keeps on disk what XLA compiles, but finds it by the program that tracing and lowering make,
and these two take longer than reading it. Here a program is found by what it is made of
(`program_store`), so that the next process does neither. Like JAX's, it is machine code of the
user's own: it is read from where JAX keeps its own and nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax

from glc_jax import program_store
from glc_jax.program_store import ProgramStore

_HIT = "/jax/compilation_cache/cache_hits"


class Jitted:
    """`jax.jit` of a function of this package whose first arguments are static.

    Args:
      function: (*statics, *trees of arrays) -> a tree of arrays.
      statics: how many arguments are static; these are hashable.
    """

    def __init__(self, function: Callable[..., Any], statics: int) -> None:
        self._function, self._statics = function, statics
        self._jitted = jax.jit(function, static_argnums=tuple(range(statics)))
        self._programs: dict[Hashable, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        store = _store()
        if store is None:
            return self._jitted(*arguments)
        return self._program(store, arguments)(*arguments[self._statics :])

    def prepare(self, *arguments: Any) -> None:
        """Compiles what a call needs; shapes with dtypes may stand for arrays."""
        store = _store()
        if store is None:
            self._jitted.lower(*arguments).compile()
        else:
            self._program(store, arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """As that of `jax.jit`."""
        return self._jitted.lower(*arguments)

    def _program(self, store: ProgramStore, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        """The program for such arguments, called with those that are not static."""
        fixed, arrays = arguments[: self._statics], arguments[self._statics :]
        leaves, tree = jax.tree.flatten(arrays)
        forms = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        known = (fixed, tree, forms, jax.config.jax_enable_x64)
        if known not in self._programs:
            self._programs[known] = self._found(store, fixed, arrays)
        return self._programs[known]

    def _found(self, store: ProgramStore, fixed: tuple[Any, ...], arrays: Any) -> Any:
        """What is on disk, or else compiled now and put there."""
        key = program_store.key(self._function, fixed, {}, arrays, *_compiled_for())
        if key is None:
            return self._jitted.lower(*fixed, *arrays).compile()
        stored = store.load(key)
        if stored is not None:
            try:
                return _restored(stored)
            except Exception:  # of whatever kind JAX and XLA raise: it is compiled anew
                store.remove(key)

        def computed(*arrays: Any) -> Any:
            return self._function(*fixed, *arrays)

        # JAX finds a program by its name too, and cannot write what it has read.
        computed.__name__ = f"{self._function.__name__}_{key[:16]}"
        with _read_by_jax() as read:
            program = jax.jit(computed).lower(*arrays).compile()
        if not read:
            with contextlib.suppress(Exception):  # a release of JAX that cannot write this one
                store.save(key, _stored(program))
        return program


def _store() -> ProgramStore | None:
    """Where programs are kept; None where none are."""
    if jax.default_backend() != "cpu" or jax.device_count() != 1 or jax.config.jax_disable_jit:
        return None
    return program_store.beside_jax()


def _compiled_for() -> tuple[str, ...]:
    """What XLA's programs depend on beside the function and its arguments."""
    import jaxlib

    options = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    flags = os.environ.get("XLA_FLAGS", "")
    return ("xla", jaxlib.__version__, program_store.processor(), repr(options), flags)


def _stored(program: jax.stages.Compiled) -> bytes:
    from jax.experimental import serialize_executable

    return pickle.dumps(serialize_executable.serialize(program))


def _restored(stored: bytes) -> jax.stages.Compiled:
    from jax.experimental import serialize_executable

    found, first = pickle.loads(stored), jax.devices()[:1]
    return serialize_executable.deserialize_and_load(*found, execution_devices=first)


_listening = threading.local()


@contextlib.contextmanager
def _read_by_jax() -> Iterator[list[str]]:
    """What JAX reads from its own store in this thread meanwhile."""
    _listen()
    _listening.read = []
    try:
        yield _listening.read
    finally:
        _listening.read = None


@functools.cache
def _listen() -> None:
    def note(event: str, **_: Any) -> None:
        if event == _HIT and getattr(_listening, "read", None) is not None:
            _listening.read.append(event)

    jax.monitoring.register_event_listener(note)
