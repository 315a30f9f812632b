"""Which file of a command line becomes which, and reading and writing them; "-" is a pipe.

IN and -o are taken as `cp` takes them: several inputs or a folder go to a folder, which keeps the
folder's shape. Nothing of the user's is lost:

- a name that was chosen here, also within a folder that -o gives, is never taken from a file that
  has it, unless `force` is given;
- a name that -o gives is, where that file is empty, is a .glc file for a .glc file, or says that
  glc made it for a picture: other pictures are somebody's originals;
- a .glc file never takes a picture's name nor a picture a .glc file's, and no output is one of the
  inputs, `force` or not. What a picture is made with, the picture of a style say, is an input too.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from glc_jax import files, images, pillow_plugin
from glc_jax.cli import streams
from glc_jax.errors import GLCError, InputError, OutputError

STDIO = "-"
SUFFIX = ".glc"
FILE_BYTES = 2**28
"""More than any .glc file can have: a longer input is refused unread."""

Existing = Literal["refuse", "replace", "skip"]
"""What becomes of a file that has an output's name already; "replace" is --force."""


class UsageError(GLCError):
    """Arguments that make no sense together."""


class Job(NamedTuple):
    """One file to make from another.

    replace: it may take its name from a file. tree: the folders of the target are made on the way.
    """

    source: str
    target: str
    replace: bool = True
    tree: bool = False

    def check(self) -> None:
        """Refuses early what could not be written after all the work.

        Raises:
          OutputError: the target's folder is missing.
        """
        parent = Path(self.target).parent
        if self.target != STDIO and not self.tree and not parent.is_dir():
            raise OutputError(f"{self.target}: there is no folder {parent}.")

    def write(self, data: bytes) -> None:
        """Makes the target.

        Raises:
          OutputError: it cannot be written.
        """
        if self.target == STDIO:
            streams.write(data)
            return
        if self.tree:
            try:
                Path(self.target).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{self.target}: cannot be written ({error.strerror})."
                ) from error
        files.write(self.target, data, replace=self.replace)


class Plan(NamedTuple):
    """The files to make, the errors of inputs that make none, and how many errors there are.

    One error may stand for several inputs. skipped: inputs whose output is there already.
    """

    jobs: list[Job]
    errors: list[GLCError]
    failed: int = 0
    skipped: int = 0


def check_habit(inputs: Sequence[str], output: str | None, made: str | None) -> None:
    """Raises UsageError where the last input is meant as the output, as avifenc takes it.

    made: the suffix of the files to make; None for pictures.
    """
    if output is not None or len(inputs) != 2:
        return
    first, last = map(Path, inputs)
    if last.exists():
        if last.suffix.lower() == made != first.suffix.lower():
            raise UsageError(f"{last}: is a {made} file already; name the output with -o {last}.")
        return
    if last.suffix.lower() == made or (made is None and images.is_picture_name(last)):
        raise UsageError(f"{last}: there is no such input; name the output with -o {last}.")


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    suffix: str,
    find: Callable[..., list[Path]],
    existing: Existing = "refuse",
    mark: str = "",
    kept: Iterable[str | Path] = (),
) -> Plan:
    """Which files to make.

    Args:
      inputs: files, folders, or "-" alone.
      output: file, folder, "-", or None to put each file beside its source.
      suffix: of the files to make; SUFFIX where they are .glc files, else they are pictures.
      find: the files in a folder that are meant: `find_glc` or `images.find`.
      existing: what becomes of files that have the outputs' names.
      mark: what the name of a file that is put beside its source has before the suffix. Such a
        file, found in a folder beside its source, is no input.
      kept: further files that no output is to replace.

    Raises:
      UsageError: inputs and output do not go together.
      OutputError: the output named must not be written to.
    """
    if "" in (*inputs, output):
        raise UsageError("a name is empty, as that of a variable of the shell which is not set.")
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    if several and STDIO in (*inputs, output):
        raise UsageError("- stands for one input or output, it does not go with several.")
    if output == STDIO or (output is None and inputs[0] == STDIO):
        if sys.stdout is None:
            raise OutputError("standard output is closed.")
        if sys.stdout.isatty():
            raise UsageError("a terminal shows no pictures; name the output with -o.")
        return Plan([Job(inputs[0], STDIO)], [])
    into_folder = output is None or os.path.isdir(output) or output.endswith(os.sep)
    if not into_folder and several:
        _check_folder(output)
    elif not into_folder:
        return _single(inputs[0], output, suffix, existing, kept)

    errors: list[GLCError] = []
    targets: dict[Path, Path] = {}  # of each source, its own suffix still on it
    walked: set[Path] = set()
    for item in inputs:
        try:
            sources = find(item, unreadable=errors) if os.path.isdir(item) else [Path(item)]
        except GLCError as error:
            errors.append(error)
            continue
        base = Path(item) if os.path.isdir(item) else Path(item).parent
        for source in sources:
            targets[source] = Path(base if output is None else output, source.relative_to(base))
        walked.update(sources if os.path.isdir(item) else ())
    names = _names(targets, suffix, mark)
    if mark:  # what was made in a folder before is not made into more
        made = {os.path.realpath(name) for name in names.values() if name.stem.endswith(mark)}
        for source in walked:
            if os.path.realpath(source) in made:
                del targets[source]
        names = _names(targets, suffix, mark)

    jobs: list[Job] = []
    skipped = 0
    there: list[Path] = []
    taken: dict[Path, Path] = {}
    own = _identities([*targets, *kept])
    for source, name in names.items():
        if name in taken:
            errors.append(OutputError(f"{source}: would be {name}, as {taken[name]} is already."))
        elif _identity(name) in own:
            errors.append(_input_error(name))
        elif os.path.exists(name) and existing == "skip":
            skipped += 1
        elif os.path.exists(name) and existing == "refuse":
            there.append(name)
        else:
            taken[name] = source
            jobs.append(Job(str(source), str(name), replace=existing == "replace", tree=True))
    failed = len(errors) + len(there)
    if there:
        errors.append(_there_error(there))
    return Plan(jobs, errors, failed, skipped)


def _names(targets: Mapping[Path, Path], suffix: str, mark: str) -> dict[Path, Path]:
    """The name of each source's output; targets have the suffix of the source."""
    endings = {
        source: mark + suffix if mark and _same_folder(source, target) else suffix
        for source, target in targets.items()
    }
    names = {
        source: target.with_name(target.stem + endings[source])
        for source, target in targets.items()
    }
    uses = Counter(names.values())
    return {  # a.jpg and a.png become a.jpg.glc and a.png.glc
        source: targets[source].with_name(targets[source].name + endings[source])
        if uses[name] > 1
        else name
        for source, name in names.items()
    }


def _same_folder(one: Path, other: Path) -> bool:
    return os.path.realpath(one.parent) == os.path.realpath(other.parent)


def _check_folder(output: str) -> None:
    """Raises UsageError where several inputs have a file to go to, or the name of one."""
    if os.path.exists(output):
        raise UsageError(f"{output}: is a file; several inputs need a folder to go to.")
    if _is_glc(output) or images.is_picture_name(output):
        raise UsageError(
            f"{output}: several inputs need a folder to go to, and that is a file's name; a folder "
            f"of this name is made for {output}{os.sep}."
        )


def _single(
    source: str, output: str, suffix: str, existing: Existing, kept: Iterable[str | Path]
) -> Plan:
    """The plan of one input and the file that -o names."""
    if _identity(output) in _identities([source, *kept]):
        raise _input_error(output)
    if suffix == SUFFIX and images.is_picture_name(output):
        raise OutputError(
            f"{output}: has a picture's name, and a .glc file is no such picture; choose a name "
            "that ends in .glc."
        )
    if suffix != SUFFIX and _is_glc(output):
        raise OutputError(
            f"{output}: is the name of a .glc file, and this makes a picture; choose a name that "
            "ends in .png, .jpg, .webp or another picture format."
        )
    if os.path.exists(output) and existing == "skip":
        return Plan([], [], skipped=1)
    if existing == "refuse" and not _is_of_kind(output, suffix):
        what = "is no .glc file" if suffix == SUFFIX else "does not say that glc made it"
        raise OutputError(
            f"{output}: exists already and {what}; choose another name, or use --force."
        )
    return Plan([Job(source, output)], [])


def _is_glc(name: str) -> bool:
    return Path(name).suffix.lower() == SUFFIX


def _is_of_kind(path: str, suffix: str) -> bool:
    """Whether a file with this name may be replaced by a .glc file, or by a picture.

    It may where there is none, where it is empty or no ordinary file, and where it is a .glc file
    or a picture that glc made.
    """
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError:
        return True  # it cannot be written to either, which is then said
    if not start:
        return True
    if suffix == SUFFIX:
        return pillow_plugin.accept(start)
    return not pillow_plugin.accept(start) and images.was_coded(path)


def _identity(path: str | Path) -> tuple[int, int] | None:
    """What is the same for two names of one file; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _identities(paths: Iterable[str | Path]) -> set[tuple[int, int]]:
    return {found for path in paths if (found := _identity(path)) is not None}


def _input_error(target: str | Path) -> OutputError:
    return OutputError(f"{target}: is an input itself; name another output.")


def _there_error(there: Sequence[Path]) -> OutputError:
    others = len(there) - 1
    what = f"and {others} other outputs exist" if others > 1 else "and another output exist"
    return OutputError(
        f"{there[0]}: {what if others else 'exists'} already; --skip-existing leaves "
        f"{'them' if others else 'it'}, --force replaces {'them' if others else 'it'}."
    )


def find_glc(folder: str, unreadable: list[GLCError] | None = None) -> list[Path]:
    """The .glc files in a folder and its subfolders, sorted; `unreadable` as in `images.walk`.

    Raises:
      InputError: there are none, or the folder cannot be read.
    """
    files = images.walk(Path(folder), unreadable=unreadable)
    found = [path for path in files if _is_glc(path.name)]
    if not found:
        raise InputError(f"{folder}: no .glc files in this folder.")
    return found


def read(source: str) -> bytes:
    """The bytes of a .glc file, or of standard input.

    Raises:
      InputError: it cannot be read, or is too long for a .glc file.
    """
    return streams.read(source, source, FILE_BYTES, "longer than any .glc file")
