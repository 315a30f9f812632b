"""The options that several commands share, and what their values must be."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable

from glc_jax import images, memory
from glc_jax.errors import InputError

DEVICES = ("cpu", "gpu", "tpu")
JOBS = 2


def add_files(command: argparse.ArgumentParser, what: str) -> None:
    """Inputs (what they are), output, and how both are treated and told about."""
    command.add_argument("inputs", nargs="+", metavar="IN", help=what)
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the file to write (- for standard output); a folder, if there are several inputs",
    )
    existing = command.add_mutually_exclusive_group()
    existing.add_argument(
        "-f",
        "--force",
        dest="existing",
        action="store_const",
        const="replace",
        help="replace files that exist",
    )
    existing.add_argument(
        "--skip-existing",
        dest="existing",
        action="store_const",
        const="skip",
        help="leave out what has its output already, to go on with a folder",
    )
    command.set_defaults(existing="refuse")
    command.add_argument(
        "-j",
        "--jobs",
        type=count,
        default=JOBS,
        metavar="N",
        help="threads that read and write files beside the coding (default: %(default)s)",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="print problems only")
    command.add_argument(
        "--json", action="store_true", help="one JSON object a line and file, on standard output"
    )


def add_redrawing(command: argparse.ArgumentParser) -> None:
    """Options of a command that makes pictures of pictures."""
    add_files(command, "a picture, a folder of pictures, or - for standard input")
    command.add_argument(
        "--rate",
        type=number(0),
        metavar="R",
        help="through the latent of this rate, 0 to 3 (default: the highest)",
    )
    add_quality(command)


def add_quality(command: argparse.ArgumentParser) -> None:
    """--quality of the pictures that are written."""
    command.add_argument(
        "--quality",
        type=_quality,
        metavar="Q",
        help="1 to 100, of a .jpg (default: 95), .webp, .avif, .jxl or .heic (default: lossless, "
        "or what the format's encoder takes)",
    )


def add_strength(command: argparse.ArgumentParser) -> None:
    """--style-strength and --stylist."""
    command.add_argument(
        "--style-strength",
        type=number(0, 1),
        metavar="S",
        help="from 0, the picture itself, to 1, the default",
    )
    add_companion(command, "stylist", "what --style uses")


def add_companion(command: argparse.ArgumentParser, kind: str, what: str) -> None:
    """--restorer or --stylist; what it is for."""
    action = command.add_argument(
        f"--{kind}",
        metavar="NAME|PATH",
        help=f"{what}: a name from `glc models`, a file or an address of the hub (default: the "
        "packaged one of these weights)",
    )
    action.completer = functools.partial(_complete_weights, kind=kind)


def add_model(command: argparse.ArgumentParser, what: str) -> None:
    """The model, what for, and what it runs on."""
    add_weights(command, what)
    command.add_argument(
        "--device", choices=DEVICES, help="what the model runs on (default: the best there is)"
    )


def add_fast(command: argparse.ArgumentParser) -> None:
    """--fast."""
    command.add_argument(
        "--fast",
        action="store_true",
        help="less exact and quicker: E and G compute in bfloat16 (on a CPU this needs OpenVINO: "
        "pip install 'glc-jax[fast]')",
    )


def add_weights(command: argparse.ArgumentParser, what: str) -> None:
    """--weights, what for, and --plugin."""
    action = command.add_argument(
        "--weights",
        metavar="NAME|PATH|hf:OWNER/NAME",
        help=f"{what}: a name from `glc models`, a weights file or an address of the Hugging Face "
        "hub (default: $GLC_WEIGHTS, or tiny)",
    )
    action.completer = _complete_weights
    command.add_argument(
        "--plugin",
        dest="plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="a Python module whose classes the weights' entropy model may use; it is imported, "
        "which runs its code (may be said again)",
    )


def _complete_weights(prefix: str, kind: str | None = None, **_: object) -> list[str]:
    """For argcomplete: the packaged names of a kind, None for models, and files."""
    from argcomplete.completers import FilesCompleter

    from glc_jax import weights

    names = [
        name for name, path in weights.packaged().items() if weights.describe(path).kind == kind
    ]
    return [*names, *FilesCompleter("safetensors")(prefix)]


def add_background(command: argparse.ArgumentParser, of: str = "") -> None:
    """--background; of: whose transparent pixels."""
    command.add_argument(
        "--background",
        metavar="COLOR",
        help=" ".join(f"what to put behind transparent pixels {of}".split()) + ": white, '#888'",
    )


def add_limits(command: argparse.ArgumentParser) -> None:
    """--max-memory and --max-pixels."""
    command.add_argument(
        "--max-memory",
        type=_bytes,
        metavar="SIZE",
        help="refuse pictures that need more, 4GB for example (default: what the machine and the "
        "container have free)",
    )
    add_max_pixels(command)


def add_max_pixels(command: argparse.ArgumentParser) -> None:
    """--max-pixels."""
    command.add_argument(
        "--max-pixels",
        type=count,
        default=images.MAX_PIXELS,
        metavar="N",
        help="refuse pictures of more pixels (default: %(default)s)",
    )


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """The type of a number within limits."""

    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value <= high and math.isfinite(value)):
            limits = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
            raise argparse.ArgumentTypeError(f"{text} is not a number {limits}")
        return value

    parse.__name__ = "number"  # argparse's word for it when float() fails
    return parse


def count(text: str) -> int:
    """A positive whole number."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


count.__name__ = "whole number"


def _quality(text: str) -> int:
    value = count(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 100")
    return value


_quality.__name__ = "whole number"


def _bytes(text: str) -> int:
    try:
        return memory.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
