"""What a person is told, on standard error: complaints, what became of files, a progress bar."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from glc_jax.errors import GLCError

if TYPE_CHECKING:
    from rich.console import Console

_console: Console | None = None
"""That of the bar which is shown at the moment."""


def tell(line: str) -> None:
    """A line on standard error, above the progress bar if there is one; never wrapped."""
    if sys.stderr is None:  # closed: there is nobody to tell
        return
    with contextlib.suppress(OSError):
        if _console is None:
            print(printable(line), file=sys.stderr, flush=True)
        else:
            _console.print(
                printable(line), markup=False, highlight=False, emoji=False, soft_wrap=True
            )


def complain(sentence: str) -> None:
    """A line about something that went wrong."""
    tell(f"glc: {sentence}")


def printable(line: str) -> str:
    """A line in which control characters, as names of files may have them, are written out."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in line
    )


def show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """For `warnings.showwarning`: one line, as everything else."""
    from glc_jax.cli import cache

    if not cache.heal(str(message)):
        complain(f"warning: {message}")


@contextlib.contextmanager
def about(source: str) -> Iterator[None]:
    """Puts the name of the file before the message of an error about its content."""
    try:
        yield
    except GLCError as error:
        raise type(error)(f"{source}: {error}") from error


def warn(sentence: str) -> None:
    """A warning of this program's own."""
    warnings.warn(sentence, stacklevel=2)


def label(names: list[str]) -> str:
    """What a bar over these files is called."""
    return printable(Path(names[0]).name) if len(names) == 1 else f"{len(names)} files"


@contextlib.contextmanager
def bar(label: str, total: int = 1) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error if that is a terminal, nothing otherwise.

    What it gives takes `advance`, `completed` and `total`. Of a single thing there is no telling
    how far it is: that bar only moves.
    """
    global _console
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda **progress: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    console = Console(stderr=True)
    shown = Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = shown.add_task(escape(label), total=total if total > 1 else None)
    with shown:
        _console = console
        try:
            yield functools.partial(shown.update, task)
        finally:
            _console = None
