"""The command line's grammar: commands and their help with examples, completion by the shell.

`eval "$(register-python-argcomplete glc)"` has the shell complete commands, options and files,
where argcomplete is installed (the extra `completion`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from glc_jax.cli import coding, looking, measuring, options, redrawing, streams

METRICS = ("psnr", "ms_ssim", "lpips", "lpips_vgg", "dists")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; `command` is the function that runs it."""
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks
        import argcomplete

        argcomplete.autocomplete(parser)
    return parser.parse_args(arguments)


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence, and shows examples as they are written."""

    def __init__(self, *args, **settings) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **settings)

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
    everything = (
        *(_compress, _decompress, _restore, _stylise),
        *(_info, _verify, _models, _evaluate, _convert),
    )
    for add in everything:
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
            "glc compress --restore old.jpg              # a file of the picture without its noise",
            "curl -s https://example.org/photo.jpg | glc compress - -o photo.glc",
        ),
    )
    options.add_files(command, "a picture, a folder of pictures, or - for standard input")
    amount = command.add_mutually_exclusive_group()
    amount.add_argument(
        "--rate",
        type=options.number(0),
        metavar="R",
        help="0 (fewest bytes) to 3, any number in between (default: the middle, 1.5)",
    )
    amount.add_argument(
        "--target-bpp",
        type=options.number(0),
        metavar="B",
        help="choose the rate that comes nearest to B bits per pixel without more",
    )
    amount.add_argument(
        "--target-bytes",
        type=options.count,
        metavar="N",
        help="choose the rate that comes nearest to a file of N bytes without more",
    )
    command.add_argument(
        "--restore",
        action="store_true",
        help="the file is of the picture before it was blurred, noisy or badly compressed; any "
        "decoder of the same weights reads it",
    )
    options.add_companion(command, "restorer", "what --restore uses")
    options.add_background(command)
    options.add_model(command, "which model to use")
    options.add_fast(command)
    options.add_limits(command)
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
            "glc decompress photo.glc --style painting.jpg --style-strength 0.7",
        ),
    )
    options.add_files(command, "a .glc file, a folder of them, or - for standard input")
    options.add_quality(command)
    drawn = command.add_mutually_exclusive_group()
    drawn.add_argument("--preview", action="store_true", help="a rough picture, at once")
    drawn.add_argument(
        "--style", metavar="PICTURE", help="draw the picture in the style of this one"
    )
    options.add_strength(command)
    options.add_background(command, "of --style's picture")
    options.add_model(
        command, "the model to use where it is not the packaged one that the file names"
    )
    options.add_fast(command)
    options.add_limits(command)
    command.set_defaults(command=coding.decompress)


def _restore(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "restore",
        help="pictures without their blur, noise and traces of compression",
        description="Draw pictures as they were before they were spoiled: what glc compress\n"
        "--restore and glc decompress make of them, without the file between. What is made of\n"
        "photo.jpg is photo-restored.png beside it, or photo.png in the folder that -o gives.",
        epilog=_examples(
            "glc restore old.jpg                         # old-restored.png",
            "glc restore old.jpg -o new.jpg --quality 90",
            "glc restore album/ -o restored/ --skip-existing",
        ),
    )
    options.add_redrawing(command)
    options.add_companion(command, "restorer", "what restores")
    options.add_background(command)
    options.add_model(command, "which model to use")
    options.add_fast(command)
    options.add_limits(command)
    command.set_defaults(command=redrawing.restore)


def _stylise(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "stylise",
        help="pictures in the style of another one",
        description="Draw pictures in the style of another one: what glc compress and glc\n"
        "decompress --style make of them, without the file between. What is made of photo.jpg\n"
        "is photo-stylised.png beside it, or photo.png in the folder that -o gives.",
        epilog=_examples(
            "glc stylise photo.jpg --style painting.jpg  # photo-stylised.png",
            "glc stylise photo.jpg --style painting.jpg --style-strength 0.5 -o half.png",
            "glc stylise holiday/ --style painting.jpg -o painted/",
        ),
    )
    options.add_redrawing(command)
    command.add_argument(
        "--style", required=True, metavar="PICTURE", help="the picture whose style is taken"
    )
    options.add_strength(command)
    options.add_background(command)
    options.add_model(command, "which model to use")
    options.add_limits(command)
    command.set_defaults(command=redrawing.stylise)


def _info(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "info",
        help="what a .glc file holds",
        description="Show where each byte of a file goes.",
        epilog=_examples("glc info photo.glc", "glc info --json compressed/ | jq .bpp"),
    )
    command.add_argument("inputs", nargs="+", metavar="IN", help="a .glc file or a folder")
    command.add_argument("--json", action="store_true", help="one JSON object a line and file")
    options.add_weights(command, "a weights file that the .glc file may have been made with")
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
    options.add_model(command, "a weights file that the .glc files may have been made with")
    options.add_max_pixels(command)
    command.set_defaults(command=looking.verify)


def _models(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser(
        "models",
        help="the models that --weights accepts",
        description="List the packaged models, with the restorers and stylists that stand on them\n"
        "(for --restorer and --stylist), or describe weights files.",
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
            "glc evaluate photos/ -o report/ --degrade noise25 blur2 jpeg10 down2 --restore",
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
        type=options.number(0),
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
        "--degrade",
        nargs="+",
        default=[],
        metavar="NAME",
        help="code the pictures as each of these spoils them, and measure against the pictures as "
        "they are: noise25, blur2, jpeg10, down2, ... (a kind of noise, grain, poisson, blur, "
        "smear, box, down, resample, jpeg, webp and its strength)",
    )
    command.add_argument(
        "--restore",
        action="store_true",
        help="measure the model with its restorer as well, as compress --restore uses it",
    )
    options.add_fast(command)
    options.add_companion(command, "restorer", "what --restore uses")
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
        type=options.count,
        metavar="PIXELS",
        help="of FID and KID (default: the data set's, otherwise 256)",
    )
    command.add_argument(
        "-f", "--force", action="store_true", help="write into a folder that holds other things"
    )
    options.add_background(command)
    options.add_model(command, "which model to measure")
    options.add_limits(command)
    command.set_defaults(command=measuring.evaluate)


def _convert(commands: argparse._SubParsersAction) -> None:
    """Named for the help; `run` gives its arguments to the converter's own parser."""
    commands.add_parser("convert", help="checkpoints of PyTorch to weights files, and back")


def _examples(*lines: str) -> str:
    return "\n  ".join(["examples:", *lines])


class _Version(argparse.Action):
    """--version, looked up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None) -> NoReturn:
        import glc_jax

        streams.show(f"glc {glc_jax.__version__}")
        parser.exit()
