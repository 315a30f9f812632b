"""Reading safetensors files as views of the mapped file.

The package safetensors copies every tensor out of its own mapping, which takes twice the file's
size in memory; for the rest this is the same: a header in JSON, then raw values.
"""

import json
import math
import mmap
import os

import ml_dtypes
import numpy as np

from glc_jax.errors import WeightsError

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # as in the package


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors by name, read-only views of the mapped file.

    Raises WeightsError where the file cannot be opened, is damaged or has other types than DTYPES.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < LENGTH_BYTES:
                raise WeightsError(f"{path} is too short to be a safetensors file.")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    start = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
    if start > min(len(data), MAX_HEADER_BYTES):
        raise WeightsError(f"{path} is not a safetensors file, or incomplete.")
    values = data[start:]
    try:
        header = json.loads(bytes(data[LENGTH_BYTES:start]))
        header.pop("__metadata__", None)
        return {name: _tensor(values, **entry) for name, entry in header.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or damaged ({error}).") from error


def _tensor(
    values: memoryview, dtype: str, shape: list[int], data_offsets: list[int]
) -> np.ndarray:
    begin, end = data_offsets
    if any(n < 0 for n in shape) or not 0 <= begin <= end <= len(values):
        raise ValueError("a tensor lies outside the file")
    if math.prod(shape) * DTYPES[dtype].itemsize != end - begin:
        raise ValueError("a tensor's shape and size differ")
    if begin == end:
        return np.empty(shape, DTYPES[dtype])
    return np.frombuffer(values[begin:end], DTYPES[dtype]).reshape(shape)
