"""Which file of a command line becomes which, and reading and writing them; "-" is a pipe.

IN and -o are taken as `cp` takes them: several inputs or a folder go to a folder, which keeps the
folder's shape. A name that the user gave is overwritten, one that was chosen here is not.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from glc_jax import images
from glc_jax.errors import GLCError, InputError, OutputError

STDIO = "-"
FILE_BYTES = 2**28
"""More than any .glc file can have: a longer input is refused unread."""


class UsageError(GLCError):
    """Arguments that make no sense together."""


class Job(NamedTuple):
    """One file to make from another. `tree`: the folders of the target are made on the way."""

    source: str
    target: str
    tree: bool = False

    def check(self) -> None:
        """Refuses early what could not be written after all the work.

        Raises:
          OutputError: the target is the source, or its folder is missing.
        """
        target = Path(self.target)
        if STDIO not in (self.source, self.target) and target.exists():
            with contextlib.suppress(FileNotFoundError):  # of the source: reading it says so
                if os.path.samefile(self.source, target):
                    raise OutputError(f"{target}: is the input itself; name another output.")
        if self.target != STDIO and not self.tree and not target.parent.is_dir():
            raise OutputError(f"{target}: there is no folder {target.parent}.")

    def write(self, data: bytes) -> None:
        """Makes the target.

        Raises:
          OutputError: it cannot be written.
        """
        if self.target == STDIO:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        if self.tree:
            try:
                Path(self.target).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{self.target}: cannot be written ({error.strerror})."
                ) from error
        images.write(self.target, data)


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    suffix: str,
    find: Callable[[str], list[Path]],
    force: bool = False,
) -> tuple[list[Job], list[GLCError]]:
    """The files to make, and the errors of inputs that make none.

    Args:
      inputs: files, folders, or "-" alone.
      output: file, folder, "-", or None to put each file beside its source.
      suffix: of the files to make.
      find: the files in a folder that are meant; raises a GLCError where there are none.
      force: without `output`, replace files that exist.

    Raises:
      UsageError: inputs and output do not go together.
    """
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    if several and STDIO in (*inputs, output):
        raise UsageError("- stands for one input or output, it does not go with several.")
    if output == STDIO or (output is None and inputs[0] == STDIO):
        if sys.stdout.isatty():
            raise UsageError("a terminal shows no pictures; name the output with -o.")
        return [Job(inputs[0], STDIO)], []
    into_folder = several or output is None or os.path.isdir(output) or output.endswith(os.sep)
    if not into_folder:
        return [Job(inputs[0], output)], []
    if output is not None and os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"{output}: is a file; several inputs need a folder to go to.")

    errors: list[GLCError] = []
    targets: dict[Path, Path] = {}  # of each source, its own suffix still on it
    for item in inputs:
        try:
            sources = find(item) if os.path.isdir(item) else [Path(item)]
        except GLCError as error:
            errors.append(error)
            continue
        base = Path(item) if os.path.isdir(item) else Path(item).parent
        for source in sources:
            targets[source] = Path(base if output is None else output, source.relative_to(base))

    jobs: list[Job] = []
    uses = Counter(target.with_suffix(suffix) for target in targets.values())
    taken: dict[Path, Path] = {}
    for source, target in targets.items():
        name = target.with_suffix(suffix)
        if uses[name] > 1:  # a.jpg and a.png become a.jpg.glc and a.png.glc
            name = target.with_name(target.name + suffix)
        if name in taken:
            errors.append(OutputError(f"{source}: would be {name}, as {taken[name]} is already."))
        elif output is None and not force and name.exists():
            errors.append(
                OutputError(f"{name}: exists already; name the output with -o, or use --force.")
            )
        else:
            taken[name] = source
            jobs.append(Job(str(source), str(name), tree=True))
    return jobs, errors


def find_glc(folder: str) -> list[Path]:
    """The .glc files in a folder and its subfolders, sorted.

    Raises:
      InputError: there are none.
    """
    found = [path for path in images.walk(Path(folder)) if path.suffix.lower() == ".glc"]
    if not found:
        raise InputError(f"{folder}: no .glc files in this folder.")
    return found


def read(source: str) -> bytes:
    """The bytes of a .glc file, or of standard input.

    Raises:
      InputError: it cannot be read, or is too long for a .glc file.
    """
    try:
        if source == STDIO:
            data = sys.stdin.buffer.read(FILE_BYTES + 1)
        else:
            with open(source, "rb") as file:
                data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror or error}).") from error
    if len(data) > FILE_BYTES:
        raise InputError(f"{source}: longer than any .glc file.")
    return data
