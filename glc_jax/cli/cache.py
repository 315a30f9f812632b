"""The folder in which JAX keeps compiled programs, and what to do when an entry is damaged."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

CACHE_BYTES = 2**30
"""What JAX's compilation cache may hold before it drops what was used least recently."""

_own: Path | None = None
"""The folder, where it is this program's and not one that the user has chosen."""

_ENTRY, _USED = "-cache", "-atime"  # JAX's suffixes: a program, and when it was last used
_COMPLAINT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)'")


def folder() -> Path | None:
    """Where the programs lie: below XDG_CACHE_HOME if that is an absolute path, or ~/.cache.

    None where there is no home. (The XDG base directory specification has relative paths ignored.)
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with contextlib.suppress(RuntimeError):
        return (base if base.is_absolute() else Path.home() / ".cache") / "glc_jax"
    return None


def prepare() -> None:
    """Sets JAX's cache in the environment, unless the user has."""
    global _own
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    place = folder()
    with contextlib.suppress(OSError):  # a home that cannot be written to: compile every time
        if place is None:
            return
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            _own = place
            os.environ |= {
                "JAX_COMPILATION_CACHE_DIR": str(place),
                "JAX_COMPILATION_CACHE_MAX_SIZE": str(CACHE_BYTES),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }


def heal(warning: str) -> bool:
    """Whether a warning is JAX's about an entry of its cache; the entry is then removed.

    JAX warns of a damaged entry, compiles anew and never replaces the entry, so it would warn and
    compile for ever. It warns before it compiles: without the entry, it writes the new one. An
    entry that could only be written in part (a full disk) has no time of use yet.
    """
    found = _COMPLAINT.match(warning)
    if found is None or _own is None:
        return False
    what, program = found.groups()
    with contextlib.suppress(OSError):
        entries = list(_own.glob(f"{program}-*{_ENTRY}"))
        used = {entry: _last_use(entry) for entry in entries}
        damaged = [entry for entry, time in used.items() if time == 0]
        if what == "reading" and entries:  # looking at it was the last use
            damaged.append(max(used, key=used.get))
        for entry in damaged:
            entry.unlink(missing_ok=True)
    return True


def _last_use(entry: Path) -> int:
    """In nanoseconds; 0 where JAX has not noted any."""
    try:
        note = entry.with_name(entry.name.removesuffix(_ENTRY) + _USED)
        return int.from_bytes(note.read_bytes(), "little")
    except OSError:
        return 0
