"""Standard input and output, where each may be closed, full or gone.

Failing to write is an OutputError; a reader that left (`| head`) stays a BrokenPipeError.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import IO, TextIO

from glc_jax.cli import messages
from glc_jax.errors import InputError, OutputError

PIPED_BYTES = 2**30
"""More than a picture file within the limits has: what a pipe holds beyond it is not read."""


def stdin() -> IO[bytes]:
    """Standard input, as bytes; raises InputError where it is closed."""
    if sys.stdin is None:
        raise InputError("standard input is closed.")
    return sys.stdin.buffer


def picture(source: str) -> str | IO[bytes]:
    """A picture's file as what Pillow can go back in: "-" and named pipes as their bytes.

    Raises:
      InputError: a pipe cannot be read, or has more than PIPED_BYTES.
    """
    if source != "-" and not is_pipe(source):
        return source
    name = "standard input" if source == "-" else source
    too_long = f"has more than {PIPED_BYTES:,} bytes, which is no picture"
    held = io.BytesIO(read(source, name, PIPED_BYTES, too_long))
    held.name = name
    return held


def read(source: str, name: str, most: int, too_long: str) -> bytes:
    """All bytes of a file, or of standard input ("-"), which messages call `name`.

    Raises:
      InputError: it cannot be read, or has more than `most` bytes; no more are ever held.
    """
    try:
        if source == "-":
            data = stdin().read(most + 1)
        else:
            with open(source, "rb") as file:
                data = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error}).") from error
    if len(data) > most:
        raise InputError(f"{name}: {too_long}.")
    return data


def is_pipe(path: str) -> bool:
    """Whether a name is that of a pipe, such as the shell's <(command)."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def write(data: bytes) -> None:
    """Writes bytes to standard output.

    Raises:
      OutputError: it cannot be written to.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed.")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        raise OutputError(f"standard output: cannot be written ({error.strerror}).") from error


def show(text: str) -> None:
    """Prints lines of results; raises as `write`."""
    if sys.stdout is None:
        raise OutputError("standard output is closed.")
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        raise OutputError(f"standard output: cannot be written ({error.strerror}).") from error


def abandon(stream: TextIO) -> None:
    """Lets a stream that failed end in nothing, so that Python's last flush does not fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def finish(status: int | str | None) -> int:
    """Flushes standard output before the process ends; the exit status that then holds."""
    status = status if isinstance(status, int) else int(status is not None)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        abandon(sys.stdout)
        return status or 1
    except OSError as error:
        abandon(sys.stdout)
        messages.complain(f"standard output: cannot be written ({error.strerror}).")
        return status or 1
    return status
