"""Writes what torch.save writes, instruction by instruction, so that tests need no torch."""

import pathlib
import struct
import zipfile

import numpy as np

DICT, LIST, MARK, SETITEMS, TUPLE, REDUCE, BUILD, STOP = (
    b"}",
    b"]",
    b"(",
    b"u",
    b"t",
    b"R",
    b"b",
    b".",
)
EMPTY_TUPLE, APPEND, NONE, PERSISTENT = b")", b"a", b"N", b"Q"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def items(*values: bytes) -> bytes:
    return MARK + b"".join(values) + TUPLE


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    parts = text("storage"), name("torch", kind), text(key), text("cpu"), number(count)
    return items(*parts) + PERSISTENT


def tensor(
    key: str, count: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
) -> bytes:
    hooks = name("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
    arguments = items(
        storage(key, count),
        number(offset),
        items(*map(number, shape)),
        items(*map(number, strides)),
        b"\x89",
        hooks,
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + REDUCE


def mapping(entries: dict[str, bytes]) -> bytes:
    return DICT + MARK + b"".join(text(k) + v for k, v in entries.items()) + SETITEMS


def write(
    path: pathlib.Path,
    program: bytes,
    storages: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
    **entries: bytes,
) -> pathlib.Path:
    """A file of torch.save with this pickle and these storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + STOP)
        for key, value in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", value)
        for key, value in entries.items():
            archive.writestr(f"archive/{key}", value)
    return path


def save(path: pathlib.Path, state: dict[str, np.ndarray]) -> pathlib.Path:
    """A state dict of float32 arrays, under "state_dict"."""
    tensors = {}
    for i, (key, array) in enumerate(state.items()):
        strides = tuple(step // array.itemsize for step in np.zeros_like(array, order="C").strides)
        tensors[key] = tensor(str(i), array.size, array.shape, strides)
    storages = {str(i): array.tobytes() for i, array in enumerate(state.values())}
    return write(path, mapping({"state_dict": mapping(tensors)}), storages)
