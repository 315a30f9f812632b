"""The `glc` command: compress, decompress, info, models, evaluate.

Starting fast is a feature: this module imports the standard library only, and each command imports
what it needs when it runs. JAX is imported by compress, decompress and evaluate alone.

Exit status: 0 all done, 1 something failed (the rest was done), 2 wrong usage, 128 + n stopped by
signal n.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from glc_jax import images, jobs, memory
from glc_jax.errors import ConfigError, GLCError, InputError
from glc_jax.jobs import STDIO, Job, UsageError

if TYPE_CHECKING:
    from glc_jax.codec import Codec

CACHE_BYTES = 2**30
"""What JAX's compilation cache may hold before it drops what was used least recently."""


def main() -> NoReturn:
    """The process behind `glc`: settings that only a whole process can make, then `run`."""
    from PIL import Image

    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # exceptions tell enough
    Image.MAX_IMAGE_PIXELS = None  # --max-pixels is checked instead, also before decoding
    sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be valid Unicode
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (without the program's name) and returns the exit status."""
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return options.command(options)
        except UsageError as error:
            _complain(str(error))
            return 2
        except GLCError as error:
            _complain(str(error))
            return 1
        except KeyboardInterrupt:
            _complain("interrupted.")
            return 128 + (_signals[0] if _signals else signal.SIGINT)
        except BrokenPipeError:  # `glc info *.glc | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1


_signals: list[int] = []
"""The signals that came: code that an exception passes through may swallow or change it."""


def _interrupt(number: int, frame: object) -> NoReturn:
    _signals.append(number)
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------- arguments


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="glc", description="GLC, the generative latent image codec.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "compress",
        help="pictures to .glc files",
        description="Compress anything Pillow reads. The name of the output is that of the input "
        "with the suffix .glc unless -o gives one; a .glc file that -o names is overwritten.",
    )
    _add_files(command, "a picture, a folder of pictures, or - for standard input")
    amount = command.add_mutually_exclusive_group()
    amount.add_argument(
        "--rate",
        type=_number(0, 3),
        default=1.5,
        metavar="R",
        help="0 (fewest bytes) to 3, any number in between (default: %(default)s)",
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
    _add_weights(command, "which model to use")
    _add_background(command)
    _add_limits(command)
    command.set_defaults(command=compress)

    command = commands.add_parser(
        "decompress",
        help=".glc files to pictures",
        description="Decompress. The suffix of the output chooses its format (without -o: .png).",
    )
    _add_files(command, "a .glc file, a folder of them, or - for standard input")
    command.add_argument(
        "--preview", action="store_true", help="a rough picture, from the hyper-information z alone"
    )
    _add_weights(command, "the model to use where it is not the packaged one that the file names")
    _add_limits(command)
    command.set_defaults(command=decompress)

    command = commands.add_parser(
        "info", help="what a .glc file holds", description="Show where each byte of a file goes."
    )
    command.add_argument("inputs", nargs="+", metavar="IN", help="a .glc file or a folder")
    command.add_argument("--json", action="store_true", help="one JSON object a line and file")
    _add_weights(command, "a weights file that the .glc file may have been made with")
    command.set_defaults(command=info)

    command = commands.add_parser(
        "models",
        help="the models that --weights accepts",
        description="List the packaged models, or describe weights files.",
    )
    command.add_argument("paths", nargs="*", metavar="WEIGHTS", help="a weights file to describe")
    command.add_argument("--json", action="store_true", help="one JSON object a line and model")
    command.set_defaults(command=models)

    command = commands.add_parser(
        "evaluate",
        help="measure rate and quality on a folder of pictures",
        description="Compress every picture below a folder to real files and write a report: "
        "index.html, results.json, items.csv and rate-distortion curves. What is done already is "
        "not done again. scripts/evaluate.py adds other codecs to compare with.",
    )
    command.add_argument("folder", metavar="DIR", help="a folder of pictures")
    command.add_argument(
        "-o", "--output", required=True, metavar="REPORT", help="the folder for the report"
    )
    command.add_argument(
        "--rates",
        nargs="+",
        type=_number(0, 3),
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
        "--inception",
        metavar="PATH|URL",
        help="weights of the Inception network; FID and KID are not computed without them",
    )
    command.add_argument(
        "--metrics",
        nargs="+",
        default=["psnr", "ms_ssim", "lpips", "dists"],
        metavar="METRIC",
        help="of psnr, ms_ssim, lpips, lpips_vgg, dists (default: all but lpips_vgg)",
    )
    command.add_argument(
        "-f", "--force", action="store_true", help="write into a folder that holds other things"
    )
    _add_weights(command, "which model to measure")
    _add_background(command)
    _add_limits(command)
    command.set_defaults(command=evaluate)
    return parser


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
    command.add_argument("-q", "--quiet", action="store_true", help="print problems only")


def _add_weights(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--weights",
        metavar="NAME|PATH",
        help=f"{what}: a name from `glc models` or a weights file (default: $GLC_WEIGHTS, or tiny)",
    )


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

        print(f"glc {glc_jax.__version__}")
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


def _bytes(text: str) -> int:
    try:
        return memory.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


# ---------------------------------------------------------------------------- commands


def compress(options: argparse.Namespace) -> int:
    """`glc compress`."""
    from glc_jax import weights

    _check_background(options.background)
    path = weights.resolve(options.weights)
    weights.describe(path)  # a bad weights file is told before any work
    load = functools.partial(_codec, path, options.max_memory)

    def work(job: Job) -> str:
        image = images.read(
            sys.stdin.buffer if job.source == STDIO else job.source,
            max_pixels=options.max_pixels,
            background=options.background,
            fits=lambda height, width: load().require_memory(height, width, "compress"),
        )
        codec = load()
        height, width, _ = image.shape
        target = options.target_bytes
        if options.target_bpp is not None:
            target = int(options.target_bpp * width * height / 8)
        if target is None:
            rate = options.rate
            data = codec.compress(image, rate=rate)
        else:
            data, rate = codec.compress_to_size(image, target_bytes=target)
            if len(data) > target or (rate == codec.highest_rate and len(data) < target):
                bpp = 8 * len(data) / (width * height)
                warnings.warn(
                    f"{job.source}: {target:,} bytes are out of reach; the nearest file has "
                    f"{len(data):,} ({bpp:.4f} bpp).",
                    stacklevel=1,
                )
        job.write(data)
        return f"{len(data):,} bytes, {8 * len(data) / (width * height):.4f} bpp, rate {rate:.4g}"

    return _work(options, work, suffix=".glc", find=images.find)


def _check_background(color: str | None) -> None:
    if color is not None:
        try:
            images.parse_color(color)
        except InputError as error:
            raise UsageError(f"--background: {error}") from error


def decompress(options: argparse.Namespace) -> int:
    """`glc decompress`."""
    from glc_jax import bitstream, weights

    given = None if options.weights is None else weights.resolve(options.weights)
    if given is not None:
        weights.describe(given)

    def work(job: Job) -> str:
        kind = "out.png" if job.target == STDIO else job.target
        images.picture_format(kind)  # an unknown suffix is told before any work
        data = jobs.read(job.source)
        with _about(job.source):
            header = bitstream.parse(data, max_pixels=options.max_pixels)
            codec = _codec(given or weights.matching(header.fingerprint), options.max_memory)
            image = codec.decompress(data, preview=options.preview, max_pixels=options.max_pixels)
        job.write(images.encode(image, kind))
        return f"{header.width} x {header.height} pixels"

    return _work(options, work, suffix=".png", find=jobs.find_glc)


def info(options: argparse.Namespace) -> int:
    """`glc info`."""
    from glc_jax import facts, weights

    known = None
    if options.weights is not None or weights.VARIABLE in os.environ:
        known = weights.describe(weights.resolve(options.weights))

    def show(item: str) -> None:
        for source in map(str, jobs.find_glc(item)) if os.path.isdir(item) else [item]:
            data = jobs.read(source)
            with _about(source):
                found = facts.of_file(data, known)
            if options.json:
                print(json.dumps({"file": source, **found}))
            else:
                print(f"{source}\n{facts.file_text(found)}")

    return _each(options.inputs, show)


def models(options: argparse.Namespace) -> int:
    """`glc models`."""
    from glc_jax import facts, weights

    named = {path: path for path in options.paths} or weights.packaged()

    def show(name: str) -> None:
        found = facts.of_weights(named[name])
        if options.json:
            print(json.dumps({"weights": name, **found}))
        else:
            print(f"{name}\n{facts.weights_text(found)}")

    return _each(named, show)


def evaluate(options: argparse.Namespace) -> int:
    """`glc evaluate`."""
    from glc_jax import weights

    _check_background(options.background)
    path = weights.resolve(options.weights)
    weights.describe(path)
    prepare_jax()
    try:
        from glc_jax import evaluation
        from glc_jax.evaluation import datasets

        dataset = datasets.load(
            options.folder,
            options.dataset,
            options.max_pixels,
            background=options.background,
            leave_out=options.output,
        )
        with _bar(dataset.label) as update:
            found = evaluation.run(
                dataset,
                _codec(path, options.max_memory),
                options.output,
                rates=options.rates,
                metrics=options.metrics,
                max_memory=options.max_memory,
                force=options.force,
                inception=options.inception,
                progress=lambda done, total, name: update(completed=done, total=total),
            )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"glc evaluate needs {error.name}, of the extra `eval`: pip install 'glc-jax[eval]'."
        ) from error
    for row in found["averages"]:
        values = [
            f"{metric['label']} {row[name]:.{metric['decimals']}f}"
            for name, metric in found["metrics"].items()
            if row[name] is not None
        ]
        print(f"rate {row['point']}: {row['bpp']:.4f} bpp", *values, sep=", ")
    for note in found["notes"]:
        _complain(note)
    for failure in found["failures"]:
        at = "" if failure["point"] is None else f" (rate {failure['point']})"
        _complain(f"{failure['image']}{at}: {failure['reason']}")
    print(f"Look at {Path(options.output, 'index.html')}")
    return int(bool(found["failures"]))


def _each(items: Iterable[str], show: Callable[[str], None]) -> int:
    """Shows every item that can be shown; the exit status tells whether all could."""
    status = 0
    for item in items:
        try:
            show(item)
        except GLCError as error:
            _complain(str(error))
            status = 1
    return status


# ---------------------------------------------------------------------------- running


def _work(
    options: argparse.Namespace,
    work: Callable[[Job], str],
    *,
    suffix: str,
    find: Callable[..., list[Path]],
) -> int:
    """Does every job that can be done, and reports each; the exit status tells whether all were."""
    todo, errors, failed, skipped = jobs.plan(
        options.inputs, options.output, suffix=suffix, find=find, existing=options.existing
    )
    total = len(todo) + failed
    for error in errors:
        _complain(str(error))
    label = Path(todo[0].source).name if len(todo) == 1 else f"{len(todo)} files"
    with _bar(label, len(todo)) as update:
        for job in todo:
            start = time.perf_counter()
            try:
                job.check()
                result = work(job)
            except GLCError as error:
                if not _signals:
                    _complain(str(error))
                failed += 1
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                _complain(f"{job.source}: the picture is too large for this machine's memory.")
                failed += 1
            else:
                if not options.quiet:
                    seconds = time.perf_counter() - start
                    print(
                        f"{job.source} -> {job.target}: {result}, {seconds:.1f} s",
                        file=sys.stderr if job.target == STDIO else sys.stdout,
                        flush=True,
                    )
            if _signals:
                raise KeyboardInterrupt
            update(advance=1)
    if skipped and not options.quiet:
        _complain(f"{skipped} left out, since {'its' if skipped == 1 else 'their'} output exists.")
    if failed and total > 1:
        _complain(f"{failed} of {total} failed.")
    return int(failed > 0)


@functools.lru_cache(maxsize=2)
def _codec(path: Path, max_memory: int | None) -> Codec:
    """Loaded when the first input has turned out to be usable, and kept for the others."""
    prepare_jax()
    from glc_jax import codec

    return codec.load(path, max_memory)


def prepare_jax() -> None:
    """Settings that JAX reads from the environment when it is imported; the user's own stay."""
    # A short-lived process has no use for most of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glc_jax"
    with contextlib.suppress(OSError):  # a home that cannot be written to: compile every time
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            os.environ |= {
                "JAX_COMPILATION_CACHE_DIR": str(cache),
                "JAX_COMPILATION_CACHE_MAX_SIZE": str(CACHE_BYTES),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }


# ---------------------------------------------------------------------------- messages


def _complain(sentence: str) -> None:
    print(f"glc: {sentence}", file=sys.stderr, flush=True)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    _complain(f"warning: {message}")


@contextlib.contextmanager
def _about(source: str) -> Iterator[None]:
    """Puts the name of the file before the message of an error about its content."""
    try:
        yield
    except GLCError as error:
        raise type(error)(f"{source}: {error}") from error


@contextlib.contextmanager
def _bar(label: str, total: int = 1) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error if that is a terminal, nothing otherwise.

    What it gives takes `advance`, `completed` and `total`. Of a single thing there is no telling
    how far it is: that bar only moves.
    """
    if not sys.stderr.isatty():
        yield lambda **progress: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # results pass above the bar; a pipe stays clean
    )
    with bar:
        yield functools.partial(bar.update, bar.add_task(label, total=total if total > 1 else None))
