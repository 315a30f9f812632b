"""Compiled programs on disk: a process that finds one traces and compiles nothing.

They lie in a folder beside JAX's own compiled programs, wherever a user or `glc` has JAX keep
those, and nowhere where it keeps none. A program is found by all that made it: the function, what
is fixed in it, the weights, the shapes, the code of this package, the releases of JAX, Flax and
the compiler, and the processor.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import platform
import types
from collections.abc import Callable, Hashable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import files
from glc_jax.errors import OutputError

FOLDER = "glc_jax"
"""Its name in the folder of JAX's programs."""

STORE_BYTES = 2**30
"""What the programs may take on disk before those that were used least recently go."""

MOST_BYTES = 2**27
"""Of one program: a larger one takes so long to run that compiling it does not matter."""

_SUFFIX = ".program"
_CHECK_BYTES = hashlib.sha256().digest_size


class ProgramStore:
    """Programs, as bytes, by key; what cannot be read or written is as if it were not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> bytes | None:
        """The program of a key; None where there is none, or a damaged one, which goes."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            stored = path.read_bytes()
            check, program = stored[:_CHECK_BYTES], stored[_CHECK_BYTES:]
            if hashlib.sha256(program).digest() == check:
                os.utime(path)
                return program
            path.unlink()
        return None

    def save(self, key: str, program: bytes) -> None:
        """Keeps a program, unless it is too large; others go where there is no room for it."""
        if len(program) > MOST_BYTES:
            return
        with contextlib.suppress(OSError, OutputError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(program))
            files.write(self._path(key), hashlib.sha256(program).digest() + program)

    def remove(self, key: str) -> None:
        """Forgets the program of a key."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / (key + _SUFFIX)

    def _make_room(self, size: int) -> None:
        kept = []
        for path in self._folder.iterdir():
            found = path.stat()
            kept.append((found.st_mtime_ns, found.st_size, path))
        total = size + sum(one for _, one, _ in kept)
        for _, one, path in sorted(kept):
            if total <= STORE_BYTES:
                break
            path.unlink(missing_ok=True)
            total -= one


def beside_jax() -> ProgramStore | None:
    """The store in the folder where JAX keeps its programs; None where it keeps none on disk."""
    folder = jax.config.jax_compilation_cache_dir
    if not folder or not jax.config.jax_enable_compilation_cache or "://" in folder:
        return None
    return ProgramStore(Path(folder) / FOLDER)


def key(
    function: Callable[..., Any],
    fixed: Hashable,
    params: Any,
    arrays: Any,
    *compiled_for: str,
) -> str | None:
    """What a program is found by: 64 hexadecimal digits.

    None for what does not say all that it computes: a function that is not one of this package's
    modules, or what is fixed holds more than modules of this package and plain values.

    Args:
      function, fixed, params: as those of `engines.Engine.run`.
      arrays: a tree of what has a shape and a dtype.
      compiled_for: the compiler's release, the processor and the like.
    """
    code = _code()
    described = _described(fixed)
    if code is None or described is None or not _is_own(function) or "." in function.__qualname__:
        return None
    digest = hashlib.sha256()
    leaves, tree = jax.tree.flatten(arrays)
    shapes = [(tuple(leaf.shape), np.dtype(leaf.dtype).name) for leaf in leaves]
    names = function.__module__, function.__qualname__
    releases = jax.__version__, flax.__version__, np.__version__, platform.machine()
    digest.update(repr((code, names, described, str(tree), shapes, releases)).encode())
    digest.update(repr(compiled_for).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        values = np.ascontiguousarray(leaf)
        digest.update(repr((jax.tree_util.keystr(path), values.shape, values.dtype.name)).encode())
        digest.update(values.view(np.uint8).data if values.ndim else values.tobytes())
    return digest.hexdigest()


def _described(value: Any) -> Any:
    """All of a value as plain values, equal ones for equal ones; None where that is not known."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return _all(type(value).__name__, enumerate(value))
    if isinstance(value, Mapping):
        return _all("mapping", value.items())
    if isinstance(value, np.ndarray):
        values = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return None if value.dtype.hasobject else (value.dtype.name, value.shape, values)
    if isinstance(value, Fraction):
        return repr(value)
    if isinstance(value, types.MethodType):
        return _all(f"method {value.__name__}", [("self", value.__self__)])
    if _is_own(type(value)) and (hasattr(value, "made_of") or dataclasses.is_dataclass(value)):
        return _all(type(value).__qualname__, _parts(value))
    if isinstance(value, np.dtype) or _is_scalar_type(value):
        dtype = np.dtype(value)
        return None if dtype.hasobject else dtype.name
    return None


def _is_scalar_type(value: Any) -> bool:
    """Whether it is np.float32 or jnp.float32 or the like: NumPy takes anything with a dtype."""
    return isinstance(value, type) and (issubclass(value, np.generic) or value in _JAX_TYPES)


_JAX_TYPES = (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64)


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What makes up a value of this package: what it says itself, or else its fields."""
    if hasattr(value, "made_of"):
        return [("made_of", value.made_of)]
    names = [field.name for field in dataclasses.fields(value)]
    if isinstance(value, nn.Module):
        names = [name for name in names if name not in ("parent", "name")]
    return [(name, getattr(value, name)) for name in names]


def _all(kind: str, items: Any) -> tuple | None:
    """Keys and values of a group, each described."""
    parts = [(str(name), _described(one)) for name, one in items]
    return None if any(part is None for _, part in parts) else (kind, *parts)


def _is_own(thing: Any) -> bool:
    return thing.__module__.partition(".")[0] == __name__.partition(".")[0]


@functools.cache
def processor() -> str:
    """The processor and its instructions, as far as the system tells."""
    named = "model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant"
    with contextlib.suppress(OSError):
        first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
        found = [line for line in first.splitlines() if line.startswith(named)]
        if found:
            return "\n".join(found)
    return f"{platform.processor()} {platform.version()}"


@functools.cache
def _code() -> str | None:
    """A hash of this package's code; None where its files cannot be read."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    try:
        for path in sorted(package.rglob("*.py")):
            digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes() + b"\n")
    except OSError:
        return None
    return digest.hexdigest()
