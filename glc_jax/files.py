"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from glc_jax.errors import OutputError


def write(path: str | os.PathLike[str], data: bytes, *, replace: bool = True) -> None:
    """`writing` all at once."""
    with writing(path, replace=replace) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[IO[bytes]]:
    """A file to write, which takes its name only once all of it is there.

    Until then it has a temporary name in the same folder, which is gone again whatever happens.
    What is no ordinary file (/dev/null, a pipe) is written directly. Without `replace` a file that
    has the name already stays, also one that came while this one was made.

    Raises:
      OutputError: the place cannot be written to, or is taken.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with open(target, "wb") as file:
                yield file
            return
        temporary = target.with_name(f".glc-{os.getpid()}-{os.urandom(6).hex()}.tmp")
        try:
            with open(temporary, "xb") as file:
                yield file
            if replace:
                os.replace(temporary, target)
            else:
                _take_free_name(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{path}: exists already.") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error


def _take_free_name(temporary: Path, target: Path) -> None:
    """Gives a file another name; FileExistsError where that name is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: nearly as good
        if target.exists():
            raise FileExistsError(target) from None
        os.replace(temporary, target)
