"""The `glc` command, from compress to convert; `arguments` lists all of them.

Starting fast is a feature: importing this package imports the standard library only, and each
command imports what it needs when it runs. JAX is imported by those that code pictures alone.

Standard output has what was asked for: pictures and .glc files with `-o -`, the results of info,
verify, models and evaluate, and with --json a line for each file that was made. Everything else,
progress and what became of each file, goes to standard error.

Exit status: 0 all done, 1 something failed (the rest was done), 2 wrong usage, 3 `verify` alone:
nothing is damaged, but weights are missing; 128 + n stopped by signal n.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from glc_jax.cli import arguments as _arguments
from glc_jax.cli import converting, messages, process, streams
from glc_jax.cli.jobs import UsageError
from glc_jax.errors import GLCError


def main() -> NoReturn:
    """The process behind `glc`: settings that only a whole process can make, then `run`."""
    from PIL import Image

    # What JAX makes when it traces are many small objects and little garbage: at Python's own
    # thresholds its collector takes a twentieth of the time of a first picture.
    gc.set_threshold(200_000, 10, 10)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # exceptions tell enough
    Image.MAX_IMAGE_PIXELS = None  # --max-pixels is checked instead, also before decoding
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # file names need not be valid Unicode
    signal.signal(signal.SIGINT, process.interrupt)
    signal.signal(signal.SIGTERM, process.interrupt)
    try:
        status = run()
    except SystemExit as stop:  # of argparse, after --help or a mistake
        status = stop.code
    status = streams.finish(status)
    process.finish()
    # Python would wait for threads, one of which may wait for a pipe for ever after a signal, and
    # take a quarter of a second to take everything apart.
    logging.shutdown()
    os._exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (without the program's name) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = messages.show_warning
        try:
            if arguments[:1] == ["convert"]:  # the converter has a command line of its own
                return converting.convert(arguments[1:])
            options = _arguments.parse(arguments)
            return options.command(options)
        except UsageError as error:
            messages.complain(str(error))
            return 2
        except GLCError as error:
            messages.complain(str(error))
            return 1
        except KeyboardInterrupt:
            messages.complain("interrupted.")
            return 128 + (process.signals[0] if process.signals else signal.SIGINT)
        except BrokenPipeError:  # `glc info *.glc | head`
            streams.abandon(sys.stdout)
            return 1
