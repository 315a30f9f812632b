"""How much memory a picture takes, and how much there is: what does not fit is refused beforehand.

An allocation that fails inside a compiled program ends the process, and with it the rest of a
folder; so the question is asked before. This module knows no JAX.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from glc_jax.errors import InputError, TooLargeError
from glc_jax.models import sizes

Operation = Literal["compress", "decompress", "estimate"]

FLOAT = 4
MAPS, COLUMN_MAPS = 3, 4
"""Of a residual block together, and where it may be in columns: sums and differences as well."""

SCRATCH = 1.17
"""What E and G take beside their arrays, as measured: the convolutions' working space."""

PIXEL_BYTES = 40
"""Of a pixel beside E and G: the picture, padded, as bytes and as floats, and its output."""

PICTURE_BYTES = 8
"""Of each pixel, where E and G run tile by tile or not at all: the picture in and out."""

PREVIEW_BYTES = 16
"""Of each value of y while a preview is drawn: y with its neighbours, and the colours of cells."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_WHOLE = 2**60  # what control groups write where there is no limit is above


def needed_bytes(
    model: Mapping[str, Any], height: int, width: int, operation: Operation = "compress"
) -> int:
    """The most that a picture takes at one time, weights and program not counted.

    It is the estimate of the whole-picture way, that of accelerators: E and G over all of the
    picture at once (tile by tile they take what `tiles.plan` says). In every
    residual block of theirs an input, a normalised copy and an output live together, as wide as
    the wider of the two; where the widths differ, the shortcut's output as well, and where maps
    may be kept in columns (`openvino_columns`), their sums and differences. The block with
    the most of it decides. A test compares with XLA's own account of its CPU programs, which is
    at most this. The memory of a process grew by 0.96 of it (compress) and 0.93 of it (decompress)
    for each further pixel with the packaged model.

    Args:
      model: the model section of a config.
      height, width: of the picture, in pixels.
      operation: "estimate" stands for `Codec.estimate`, which runs E in float64.

    Returns:
      bytes.
    """
    vqvae = model["vqvae"]
    stride = 4 * 2 ** (len(vqvae["multipliers"]) - 1)
    pixels = (height + -height % stride) * (width + -width % stride)
    encoder = pixels * _encoder_floats(vqvae) * FLOAT
    generator = pixels * _generator_floats(vqvae) * FLOAT
    network = {
        "compress": encoder,
        "decompress": generator,
        "estimate": max(2 * encoder, generator),
    }[operation]
    return round(SCRATCH * network + PIXEL_BYTES * pixels)


def preview_bytes(model: Mapping[str, Any], height: int, width: int, coding: int) -> int:
    """What drawing a preview takes by the weights' own map, as `needed_bytes`.

    coding: what entropy coding says that it takes (`ExactModel.needed_bytes`).
    """
    multiple = sizes.size_multiple(model)
    pixels = (height + -height % multiple) * (width + -width % multiple)
    values = pixels // sizes.downsampling(model) ** 2 * model["latent_channels"]
    return PICTURE_BYTES * pixels + max(PREVIEW_BYTES * values, coding)


def _encoder_floats(vqvae: Mapping[str, Any]) -> float:
    """Floats for each pixel of the picture that live at E's widest place."""
    features = [vqvae["base_channels"] * multiplier for multiplier in vqvae["multipliers"]]
    before = [features[0], *features[:-1]]
    levels = [
        _block_floats(*widths) / 4**level
        for level, widths in enumerate(zip(before, features, strict=True))
    ]
    return max(*levels, _attention_floats(vqvae, features[-1]))


def _generator_floats(vqvae: Mapping[str, Any]) -> float:
    """Floats for each pixel of the picture that live at G's widest place."""
    features = [vqvae["base_channels"] * multiplier for multiplier in vqvae["multipliers"]]
    before = [*features[1:], features[-1]]
    levels = [
        _block_floats(*widths) / 4**level
        for level, widths in enumerate(zip(before, features, strict=True))
    ]
    return max(*levels, _attention_floats(vqvae, features[-1]))


def _block_floats(inputs: int, outputs: int) -> int:
    """Of a residual block, for each position."""
    from glc_jax.openvino_columns import LEAST_CHANNELS  # it imports NumPy

    width = max(inputs, outputs)
    maps = COLUMN_MAPS if width >= LEAST_CHANNELS else MAPS
    return maps * width + (outputs if inputs != outputs else 0)


def _attention_floats(vqvae: Mapping[str, Any], features: int) -> float:
    """Of the windowed attention at the last level, for each pixel: weights before and after."""
    level = len(vqvae["multipliers"]) - 1
    return (2.5 * vqvae["window"] ** 2 + 5 * features) / 4**level


def require(
    needed: int, limit: int | None, height: int, width: int, purpose: str, left: int | None = None
) -> int | None:
    """Refuses a picture that does not fit.

    Args:
      needed: bytes.
      limit: bytes that the process may take in all; None for what the machine has free.
      height, width: of the picture, in pixels, for the message.
      purpose: for the message, such as "to compress".
      left: bytes that may still be taken, where the caller knows; else found here.

    Returns:
      bytes that may still be taken; None where nothing is known.

    Raises:
      TooLargeError: it needs more.
    """
    if left is None:
        left = free_bytes() if limit is None else max(0, limit - resident_bytes())
    if left is None or needed <= left:
        return left
    there = f"{shown(left)} is free"
    if limit is not None:
        there = f"{shown(limit)} is the limit, of which {shown(left)} is left"
    raise TooLargeError(
        f"{width} x {height} pixels need about {shown(needed)} of memory {purpose}, and {there}; "
        "make the picture smaller, or say how much may be used (--max-memory, max_memory=)."
    )


def parse(text: str | int) -> int:
    """Bytes of "4GB", "512MB", "1.5GiB" or a number of bytes.

    Raises:
      InputError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", str(text).strip().lower())
    size = 0
    if match:
        number, unit = match.groups()
        size = int(float(number) * {**_UNITS, **_BINARY_UNITS}[unit])
    if size < 1:
        raise InputError(f"{text!r} is no amount of memory; write it like 4GB or 512MB.")
    return size


def shown(size: int) -> str:
    """Bytes as a person reads them: "4.1 GB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def free_bytes(root: str | os.PathLike[str] = "/") -> int | None:
    """What this process can still take: the least that any limit leaves; None where none is known.

    The machine's free memory, every control group above the process (both versions: containers,
    services and batch systems), and the process's own limit of its address space.

    Args:
      root: the folder that holds proc and sys, for tests.
    """
    root = Path(root)
    found = [
        *_machine(root),
        *_control_groups(root),
        *(_address_space(root) if root == Path("/") else ()),
    ]
    return max(0, min(found)) if found else None


def resident_bytes() -> int:
    """What this process holds; 0 where the system does not say."""
    resident = _number(Path("/proc/self/statm"), 1)
    return 0 if resident is None else resident * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Hands memory that was freed back to the system, where its C library (glibc) keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _machine(root: Path) -> Iterator[int]:
    values = _fields(root / "proc/meminfo")
    if "MemAvailable:" in values:
        yield values["MemAvailable:"] * 1024
    elif root == Path("/") and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # elsewhere than on Linux


def _control_groups(root: Path) -> Iterator[int]:
    """What each memory limit on the way from this process's groups to the top leaves."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            mounts = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            mounts = (root / "sys/fs/cgroup/memory",)
        else:
            continue
        for mount in mounts:
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield from _left(mount / group.relative_to("/"), *names)


def _left(group: Path, limit_name: str, usage_name: str, cache_name: str) -> Iterator[int]:
    """What a group's limit leaves; what it holds of files can be dropped and counts as free."""
    limit, usage = _number(group / limit_name), _number(group / usage_name)
    if limit is not None and usage is not None and limit < _WHOLE:
        yield limit - usage + _fields(group / "memory.stat").get(cache_name, 0)


def _address_space(root: Path) -> Iterator[int]:
    """What `ulimit -v` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _number(root / "proc/self/statm")
    if limit != resource.RLIM_INFINITY and used is not None:
        yield limit - used * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path, place: int = 0) -> int | None:
    """The number at a place of a file; None where there is none ("max")."""
    try:
        return int(path.read_text().split()[place])
    except (OSError, ValueError, IndexError):
        return None


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a file of lines "name number"."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
