"""The command line's grammar: commands, options, help with examples, completion by the shell.

`eval "$(register-python-argcomplete glc)"` has the shell complete commands, options and files,
where argcomplete is installed (the extra `completion`).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from glc_jax import images, memory
from glc_jax.cli import coding, looking, measuring, streams
from glc_jax.errors import InputError

DEVICES = ("cpu", "gpu", "tpu")
METRICS = ("psnr", "ms_ssim", "lpips", "lpips_vgg", "dists")
JOBS = 2


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; `command` is the function that runs it."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks
        import argcomplete

        argcomplete.autocomplete(parser)
    return parser.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence, and shows examples as they are written."""

    def __init__(self, *args, **options) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        if file is sys.stdout:
            streams.show(message.rstrip("\n"))  # complains where it is closed or full
        elif file is not None:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        named = [word for word in sys.argv[2:] if word.startswith("-") and os.path.exists(word)]
        if named:
            message += f"; for the file of that name write ./{named[0]}"
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="glc",
        description="GLC, the generative latent image codec.",
        epilog="Each command has a help of its own, with examples: glc compress --help",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_compress, _decompress, _info, _verify, _models, _evaluate, _convert):
        add(commands)
    return parser


def _compress(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "compress",
        help="pictures to .glc files",
        description="Compress anything Pillow reads. The name of the output is that of the input\n"
        "with the suffix .glc unless -o gives one; a .glc file that -o names is overwritten.",
        epilog=_examples(
            "glc compress photo.jpg                      # photo.glc",
            "glc compress photo.jpg -o small.glc --rate 0.5",
            "glc compress photo.jpg --target-bytes 2000  # or --target-bpp 0.05",
            "glc compress holiday/ -o compressed/ --skip-existing",
            "curl -s https://example.org/photo.jpg | glc compress - -o photo.glc",
        ),
    )
    _add_files(command, "a picture, a folder of pictures, or - for standard input")
    amount = command.add_mutually_exclusive_group()
    amount.add_argument(
        "--rate",
        type=_number(0),
        metavar="R",
        help="0 (fewest bytes) to 3, any number in between (default: the middle, 1.5)",
    )
    amount.add_argument(
        "--target-bpp",
        type=_number(0),
        metavar="B",
        help="choose the rate that comes nearest to B bits per pixel without more",
    )
    amount.add_argument(
        "--target-bytes",
        type=_count,
        metavar="N",
        help="choose the rate that comes nearest to a file of N bytes without more",
    )
    _add_background(command)
    _add_model(command, "which model to use")
    _add_limits(command)
    command.set_defaults(command=coding.compress)


def _decompress(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "decompress",
        help=".glc files to pictures",
        description="Decompress. The suffix of the output chooses its format (without -o: .png).",
        epilog=_examples(
            "glc decompress photo.glc                    # photo.png",
            "glc decompress photo.glc -o photo.jpg --quality 90",
            "glc decompress compressed/ -o pictures/",
        ),
    )
    _add_files(command, "a .glc file, a folder of them, or - for standard input")
    command.add_argument(
        "--quality",
        type=_quality,
        metavar="Q",
        help="1 to 100, of a .jpg (default: 95), .webp, .avif, .jxl or .heic (default: lossless, "
        "or what the format's encoder takes)",
    )
    command.add_argument(
        "--preview", action="store_true", help="a rough picture, from a quarter of the pixels"
    )
    _add_model(command, "the model to use where it is not the packaged one that the file names")
    _add_limits(command)
    command.set_defaults(command=coding.decompress)


def _info(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "info",
        help="what a .glc file holds",
        description="Show where each byte of a file goes.",
        epilog=_examples("glc info photo.glc", "glc info --json compressed/ | jq .bpp"),
    )
    command.add_argument("inputs", nargs="+", metavar="IN", help="a .glc file or a folder")
    command.add_argument("--json", action="store_true", help="one JSON object a line and file")
    _add_weights(command, "a weights file that the .glc file may have been made with")
    command.set_defaults(command=looking.info)


def _verify(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "verify",
        help="whether .glc files are sound",
        description="Decode the symbols of .glc files, which their checks are about, and draw\n"
        "nothing. A line a file says sound, damaged, unreadable or weights missing.",
        epilog="Exit status: 0 all are sound, 1 one is damaged or unreadable, 2 wrong usage,\n"
        "3 none is, but the weights of one are missing (--weights names them).\n\n"
        + _examples(
            "glc verify compressed/ -q",
            "glc verify photo.glc && rm photo.jpg",
            "glc verify --conformance tests/conformance",
        ),
    )
    command.add_argument("inputs", nargs="*", metavar="IN", help="a .glc file or a folder")
    command.add_argument(
        "--conformance",
        metavar="CORPUS",
        help="instead: whether a conformance corpus, a folder or its zip archive, decodes here to "
        "the integers and pictures that it should",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="leave out what is sound")
    command.add_argument("--json", action="store_true", help="one JSON object a line and file")
    _add_model(command, "a weights file that the .glc files may have been made with")
    _add_max_pixels(command)
    command.set_defaults(command=looking.verify)


def _models(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "models",
        help="the models that --weights accepts",
        description="List the packaged models, or describe weights files.",
    )
    command.add_argument("paths", nargs="*", metavar="WEIGHTS", help="a weights file to describe")
    command.add_argument("--json", action="store_true", help="one JSON object a line and model")
    command.set_defaults(command=looking.models)


def _evaluate(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "evaluate",
        help="measure rate and quality on a folder of pictures",
        description="Compress every picture below a folder to real files and write a report:\n"
        "index.html, results.json, items.csv and rate-distortion curves. What is done already is\n"
        "not done again, so that the same command continues an interrupted one.",
        epilog=_examples(
            "glc evaluate photos/ -o report/",
            "glc evaluate photos/ -o report/ --against avif jpeg other.safetensors",
            "glc evaluate kodak/ -o report/ --dataset kodak --weights natural.safetensors",
            "glc evaluate tfds -o report/ --dataset clic2020",
        ),
    )
    command.add_argument(
        "folder",
        metavar="DIR",
        help="a folder of pictures; or tfds, or tfds:DATA_DIR, for --dataset from TFDS",
    )
    command.add_argument(
        "-o", "--output", required=True, metavar="REPORT", help="the folder for the report"
    )
    command.add_argument(
        "--rates",
        nargs="+",
        type=_number(0),
        default=[0.0, 1.0, 2.0, 3.0],
        metavar="R",
        help="the rates to measure (default: 0 1 2 3)",
    )
    command.add_argument(
        "--dataset",
        metavar="NAME",
        help="the data set that the folder holds (kodak, clic2020, div2k): checks that it does, "
        "uses its patch size and shows the published curves",
    )
    command.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="CODEC",
        help="avif, webp, jpeg or jxl, at the nearest file size of each picture; or other weights, "
        "at the same rates",
    )
    command.add_argument(
        "--metrics",
        nargs="+",
        choices=METRICS,
        default=[name for name in METRICS if name != "lpips_vgg"],
        metavar="METRIC",
        help=f"of {', '.join(METRICS)} (default: all but lpips_vgg)",
    )
    command.add_argument(
        "--inception",
        metavar="PATH|URL",
        help="weights of the Inception network, pt_inception-2015-12-05-6726825d.pth or its "
        "tensors as .safetensors; FID and KID are not computed without them",
    )
    command.add_argument(
        "--inception-sha256",
        metavar="HEX",
        help="that file's SHA-256 (default: the published .pth file's)",
    )
    command.add_argument(
        "--patch-size",
        type=_count,
        metavar="PIXELS",
        help="of FID and KID (default: the data set's, otherwise 256)",
    )
    command.add_argument(
        "-f", "--force", action="store_true", help="write into a folder that holds other things"
    )
    _add_background(command)
    _add_model(command, "which model to measure")
    _add_limits(command)
    command.set_defaults(command=measuring.evaluate)


def _convert(commands: argparse._SubParsersAction) -> None:
    """Named for the help; `run` gives its arguments to the converter's own parser."""
    commands.add_parser("convert", help="checkpoints of PyTorch to weights files, and back")


def _examples(*lines: str) -> str:
    return "\n  ".join(["examples:", *lines])


# ---------------------------------------------------------------------------- options


def _add_files(command: argparse.ArgumentParser, what: str) -> None:
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
        type=_count,
        default=JOBS,
        metavar="N",
        help="threads that read and write files beside the coding (default: %(default)s)",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="print problems only")
    command.add_argument(
        "--json", action="store_true", help="one JSON object a line and file, on standard output"
    )


def _add_model(command: argparse.ArgumentParser, what: str) -> None:
    _add_weights(command, what)
    command.add_argument(
        "--device", choices=DEVICES, help="what the model runs on (default: the best there is)"
    )


def _add_weights(command: argparse.ArgumentParser, what: str) -> None:
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


def _complete_weights(prefix: str, **_: object) -> list[str]:
    """For argcomplete: the packaged names, and files."""
    from argcomplete.completers import FilesCompleter

    from glc_jax import weights

    return [*weights.packaged(), *FilesCompleter("safetensors")(prefix)]


def _add_background(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--background", metavar="COLOR", help="what to put behind transparent pixels: white, '#888'"
    )


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-memory",
        type=_bytes,
        metavar="SIZE",
        help="refuse pictures that need more, 4GB for example (default: what the machine and the "
        "container have free)",
    )
    _add_max_pixels(command)


def _add_max_pixels(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--max-pixels",
        type=_count,
        default=images.MAX_PIXELS,
        metavar="N",
        help="refuse pictures of more pixels (default: %(default)s)",
    )


class _Version(argparse.Action):
    """--version, looked up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None) -> NoReturn:
        import glc_jax

        streams.show(f"glc {glc_jax.__version__}")
        parser.exit()


def _number(low: float, high: float = math.inf) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value <= high and math.isfinite(value)):
            limits = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
            raise argparse.ArgumentTypeError(f"{text} is not a number {limits}")
        return value

    parse.__name__ = "number"  # argparse's word for it when float() fails
    return parse


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


_count.__name__ = "whole number"


def _quality(text: str) -> int:
    value = _count(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 100")
    return value


_quality.__name__ = "whole number"


def _bytes(text: str) -> int:
    try:
        return memory.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error
