"""Reading the tensors of a small, trusted file of `torch.save`, of either of its formats.

For published metric networks, whose SHA-256 is known and checked before; checkpoints that are
large or of unknown origin are for the package `conversion`. The newer format is a zip archive,
the older (before PyTorch 1.6) five pickles with the raw values behind them. As in `array_pickle`
any global that is not needed for tensors in dicts is refused.
"""

import collections
import io
import pickle
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

from glc_jax.errors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _Tensor(NamedTuple):
    """A tensor before its storage has been read; offset and strides count elements."""

    key: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: dict[str, bytes]) -> np.ndarray:
        values = np.frombuffer(storages[self.key], self.dtype)
        indices = np.int64(self.offset)
        for size, stride in zip(self.shape, self.strides, strict=True):
            indices = np.add.outer(indices, np.arange(size) * stride)
        return values[indices]


def _rebuild_tensor(storage: Any, offset: int, shape: tuple, strides: tuple, *_: Any) -> _Tensor:
    key, dtype = storage
    return _Tensor(key, dtype, offset, shape, strides)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        kind, dtype, key = pid[:3]
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"it refers to {kind!r}")
        return key, dtype


def loads(data: bytes, name: str = "the data") -> dict[str, np.ndarray]:
    """The state dict saved in `data`: tensor name -> array; `name` stands for it in messages.

    Raises WeightsError for anything but a dict of tensors written by torch.save.
    """
    try:
        state, storages = _read_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _read(data)
        if not isinstance(state, dict) or not all(
            isinstance(key, str) and isinstance(value, _Tensor) for key, value in state.items()
        ):
            raise pickle.UnpicklingError("it is not a dict of tensors")
        return {key: tensor.array(storages) for key, tensor in state.items()}
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise WeightsError(f"{name} is not a PyTorch file of plain tensors: {error}") from error


def _read_zip(data: bytes) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (program,) = (entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
        folder = program.removesuffix("data.pkl") + "data/"
        state = _Unpickler(io.BytesIO(archive.read(program))).load()
        storages = {
            entry.removeprefix(folder): archive.read(entry)
            for entry in archive.namelist()
            if entry.startswith(folder)
        }
    return state, storages


def _read(data: bytes) -> tuple[Any, dict[str, bytes]]:
    file = io.BytesIO(data)
    magic, protocol, system = (_Unpickler(file).load() for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not system["little_endian"]:
        raise pickle.UnpicklingError("it does not start as such a file does")
    dtypes: dict[str, np.dtype] = {}

    class Unpickler(_Unpickler):
        def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
            key, dtypes[key] = super().persistent_load(pid)
            return key, dtypes[key]

    state = Unpickler(file).load()
    storages = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(count * dtypes[key].itemsize)
    return state, storages
