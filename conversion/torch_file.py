"""Reading files of `torch.save` without PyTorch, and without trusting them.

Such a file is a zip archive: `data.pkl` is a pickle of the saved object, in which every tensor
refers to one of the entries `data/0`, `data/1`, ... with its raw values. Entries are stored, not
compressed, so a tensor is a view of the mapped file and costs no memory until it is read.

A pickle is a program. The interpreter here knows the instructions and the few names that tensors
in dicts and lists need (`GLOBALS`) and refuses all others; it cannot import anything.
"""

import math
import mmap
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from glc_jax.errors import WeightsError

# torch.<name>, and how its values lie in the file.
STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

MAX_DIMENSIONS = 32
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
# The old format starts with a pickled magic number instead of a zip header.
LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


def load(path: str | os.PathLike) -> Any:
    """The object that `torch.save` wrote to `path`, tensors as read-only numpy arrays.

    Arrays are views of the mapped file: what is never touched is never read. bfloat16 is
    `ml_dtypes.bfloat16`. OrderedDict comes back as dict and Parameter as its tensor.

    Raises WeightsError where the file cannot be opened, is not of this format, is damaged, or
    holds anything but dicts, lists, tuples, tensors, numbers, strings, booleans and None.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise WeightsError(f"{path} is empty.")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if data[:4] != b"PK\x03\x04":
                raise _foreign(path, data)
            entries = _zip_entries(path, file, data)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error

    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"{path} is a zip archive, but not one that torch.save wrote.")
    folder = pickles[0].removesuffix("data.pkl")
    byteorder = entries.get(f"{folder}byteorder", b"little")
    if bytes(byteorder) != b"little":
        raise WeightsError(
            f"{path} was saved on a big-endian machine; load it with PyTorch and save it anew on "
            "a little-endian one."
        )
    return _Unpickler(path, entries, folder).load(entries[pickles[0]])


def release(array: np.ndarray) -> None:
    """Give back the memory of all that was read of the file that `array` is a view of.

    Values stay valid: they are read again when they are needed again. Does nothing for an array
    that is no view of a mapped file, and where the system cannot do it.
    """
    owner: Any = array
    while not isinstance(owner, memoryview) and getattr(owner, "base", None) is not None:
        owner = owner.base
    mapped = getattr(owner, "obj", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _foreign(path: str | os.PathLike, data: mmap.mmap) -> WeightsError:
    if LEGACY_MAGIC in data[:64]:
        return WeightsError(
            f"{path} is in PyTorch's format from before version 1.6. Save it anew where PyTorch "
            f"is installed: python -c \"import torch; torch.save(torch.load('{path}', "
            "map_location='cpu', weights_only=True), 'new.pth')\"."
        )
    return WeightsError(f"{path} is not a file of torch.save (which is a zip archive).")


def _zip_entries(path: str | os.PathLike, file: Any, data: mmap.mmap) -> dict[str, memoryview]:
    """Name -> bytes of each stored entry of a zip archive, as views of the mapped file."""
    view, entries = memoryview(data), {}
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise WeightsError(
            f"{path} is damaged or incomplete, perhaps a broken download ({error})."
        ) from error
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightsError(
                f"{path} has been packed anew: its entry {info.filename!r} is compressed or "
                "encrypted, and torch.save writes neither. Use the original file."
            )
        header = data[info.header_offset : info.header_offset + LOCAL_HEADER.size]
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise WeightsError(f"{path} is damaged: no header for entry {info.filename!r}.")
        *_, name_length, extra_length = LOCAL_HEADER.unpack(header)
        start = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
        if start + info.file_size > len(data):
            raise WeightsError(f"{path} is damaged: entry {info.filename!r} exceeds the file.")
        if info.filename in entries:
            raise WeightsError(f"{path} is damaged: it holds entry {info.filename!r} twice.")
        entries[info.filename] = view[start : start + info.file_size]
    return entries


class _Storage(NamedTuple):
    """A typed storage: `entry` is the zip entry with its values."""

    entry: memoryview
    dtype: np.dtype


class _Malformed(Exception):
    """The pickle does something that torch.save does not write."""


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) <= MAX_DIMENSIONS
        and all(type(item) is int and 0 <= item < 2**62 for item in value)
    )


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *ignored: Any
) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2; offset and strides count elements."""
    del ignored  # requires_grad, backward hooks, metadata
    if not (isinstance(storage, _Storage) and _is_shape((offset,))):
        raise _Malformed("a tensor without a storage")
    if not (_is_shape(shape) and _is_shape(strides) and len(shape) == len(strides)):
        raise _Malformed("a tensor of impossible shape")
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    itemsize, count = storage.dtype.itemsize, len(storage.entry) // storage.dtype.itemsize
    strides = [step if n > 1 else 0 for n, step in zip(shape, strides, strict=True)]
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= count or math.prod(shape) > count:
        raise _Malformed("a tensor that reaches beyond its storage")
    values = np.frombuffer(storage.entry, storage.dtype)[offset:]
    return np.lib.stride_tricks.as_strided(
        values, shape, [step * itemsize for step in strides], writeable=False
    )


def _rebuild_parameter(data: Any, *ignored: Any) -> np.ndarray:
    """torch._utils._rebuild_parameter: the tensor itself."""
    del ignored  # requires_grad, backward hooks
    if not isinstance(data, np.ndarray):
        raise _Malformed("a parameter that is no tensor")
    return data


def _ordered_dict(*arguments: Any) -> dict:
    """collections.OrderedDict: created empty; items are set by later instructions."""
    if arguments:
        raise _Malformed("an OrderedDict with arguments")
    return {}


# All that a file may name. Storages stand for their dtype.
GLOBALS: dict[str, Callable[..., Any] | np.dtype] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    **{f"torch.{name}": dtype for name, dtype in STORAGE_DTYPES.items()},
}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"} | {
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLE_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class _Unpickler:
    """Interprets the pickle instructions (protocols 2 to 5) that torch.save writes."""

    def __init__(
        self, path: str | os.PathLike, entries: dict[str, memoryview], folder: str
    ) -> None:
        self.path, self.entries, self.folder = path, entries, folder
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self, pickle: memoryview) -> Any:
        """The pickled object. Raises WeightsError."""
        try:
            for opcode, argument, _ in pickletools.genops(bytes(pickle)):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.step(opcode.name, argument)
        except (_Malformed, IndexError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{self.path} is damaged: bad pickle ({error}).") from error
        raise WeightsError(f"{self.path} is damaged: its pickle has no end.")

    def step(self, name: str, argument: Any) -> None:
        """Executes one instruction."""
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            pass
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif name in _TUPLE_SIZES:
            stack.append(tuple(self.pop(_TUPLE_SIZES[name])))
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
            self.top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, str | int):
                    raise _Malformed("a dict whose keys are not names or numbers")
                self.top(dict)[key] = value
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self.resolve(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(self.resolve(".".join(self.pop(2))))
        elif name == "BINPERSID":
            stack.append(self.storage(stack.pop()))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            if not (isinstance(function, FunctionType) and isinstance(arguments, tuple)):
                raise _Malformed("a call of something that is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            stack.pop()  # attributes of a state dict (module versions), which nothing needs
            self.top(dict)
        else:
            raise _Malformed(f"the instruction {name}")

    def pop(self, count: int) -> list[Any]:
        """Takes `count` items off the stack."""
        items = self.stack[-count:]
        if len(items) < count or any(item is _MARK for item in items):
            raise _Malformed("too few values")
        del self.stack[-count:]
        return items

    def pop_to_mark(self) -> list[Any]:
        """Takes the items above the topmost mark, and the mark, off the stack."""
        for i in reversed(range(len(self.stack))):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise _Malformed("no mark")

    def top(self, kind: type) -> Any:
        """The topmost item, which must be a `kind`."""
        if not isinstance(self.stack[-1], kind):
            raise _Malformed(f"no {kind.__name__} where one is filled")
        return self.stack[-1]

    def resolve(self, name: str) -> Callable[..., Any] | np.dtype:
        """What a global name stands for."""
        if name not in GLOBALS:
            raise WeightsError(
                f"{self.path} refers to {name}, which could run code; only tensors in dicts and "
                "lists are read. If you trust the file, load it with PyTorch and save its state "
                "dict anew."
            )
        return GLOBALS[name]

    def storage(self, reference: Any) -> _Storage:
        """The storage that a persistent id ("storage", dtype, key, device, count) refers to."""
        if not (isinstance(reference, tuple) and len(reference) == 5 and reference[0] == "storage"):
            raise _Malformed("a reference to something that is no storage")
        _, dtype, key, _, count = reference
        if not (isinstance(dtype, np.dtype) and isinstance(key, str) and _is_shape((count,))):
            raise _Malformed("a reference to an impossible storage")
        entry = self.entries.get(f"{self.folder}data/{key}")
        if entry is None or len(entry) < count * dtype.itemsize:
            raise _Malformed(f"a reference to storage {key!r}, which is missing or too short")
        return _Storage(entry[: count * dtype.itemsize], dtype)
