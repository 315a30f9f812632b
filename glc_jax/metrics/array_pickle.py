"""Reading pickles of NumPy arrays without running what a pickle could run.

Some published weights exist only as pickles. `read` takes those that hold numeric arrays in
plain containers (dict, list, tuple, str, numbers) and whose SHA-256 is the expected one; any
other global that the pickle names is refused before it is looked up.
"""

import hashlib
import io
import os
import pathlib
import pickle
from typing import Any

import numpy as np

from glc_jax.errors import WeightsError


def verified_bytes(path: str | os.PathLike, sha256: str) -> bytes:
    """The content of `path`, whose SHA-256 must be `sha256` (64 hexadecimal digits).

    Raises WeightsError when the file cannot be read or is another one.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise WeightsError(
            f"{path} is not the expected weights file: its SHA-256 is {found}, not {sha256}"
        )
    return data


def _empty_array(subtype: type, shape: tuple, dtype: bytes) -> np.ndarray:
    """What NumPy's `_reconstruct` gives: a blank that the pickle's state then fills."""
    return np.empty(0, np.int8)


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def loads(data: bytes, name: str = "the data") -> Any:
    """The containers and arrays pickled in `data`; `name` stands for it in messages.

    Raises WeightsError for a damaged pickle, one that names any other class or function, and
    one with an array of Python objects.
    """
    try:
        tree = _ArrayUnpickler(io.BytesIO(data)).load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise WeightsError(f"{name} is not a pickle of plain arrays: {error}") from error
    _refuse_objects(tree, name)
    return tree


def _refuse_objects(tree: Any, name: str) -> None:
    if isinstance(tree, dict):
        for value in tree.values():
            _refuse_objects(value, name)
    elif isinstance(tree, list | tuple):
        for value in tree:
            _refuse_objects(value, name)
    elif isinstance(tree, np.ndarray) and tree.dtype.hasobject:
        raise WeightsError(f"{name} is not a pickle of plain arrays: it has an array of objects")


def read(path: str | os.PathLike, sha256: str) -> Any:
    """`loads` of the file at `path`, after its SHA-256 was found to be `sha256`."""
    return loads(verified_bytes(path, sha256), str(path))
