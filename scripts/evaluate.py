"""`glc evaluate` with other codecs beside the model: measured, plotted and shown in one report.

    python scripts/evaluate.py photos/ -o report --against avif webp jxl jpeg
    python scripts/evaluate.py photos/ -o report --against other.safetensors
    python scripts/evaluate.py kodak/ --dataset kodak -o report --weights natural.safetensors \\
        --inception pt_inception-2015-12-05-6726825d.pth
    python scripts/evaluate.py tfds --dataset clic2020 -o report

Open report/index.html. docs/evaluation.md tells what is measured and how. The same command
continues an interrupted run. Exit status: 0 all done, 1 something failed, 2 wrong usage, 130
interrupted.
"""

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from glc_jax import GLCError, memory
from glc_jax.cli import process
from glc_jax.images import MAX_PIXELS

process.prepare_jax()  # JAX reads these settings when it is imported
from glc_jax import codec  # noqa: E402
from glc_jax.evaluation import datasets, methods, quality, runner  # noqa: E402
from glc_jax.metrics import inception_weights  # noqa: E402


def main() -> int:
    """Runs one command line and returns the exit status."""
    options = arguments()
    try:
        found = evaluate(options)
    except GLCError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evaluate: interrupted; the same command continues.", file=sys.stderr)
        return 130
    for failure in found["failures"]:
        where = f" ({failure['method']}, rate {failure['point']})" if failure["method"] else ""
        print(f"evaluate: {failure['image']}{where}: {failure['reason']}", file=sys.stderr)
    print(summary(found))
    print(f"Look at {options.output / 'index.html'}")
    return int(bool(found["failures"]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder",
        metavar="DIR",
        help="a folder of pictures; or tfds, or tfds:DATA_DIR, for --dataset from TFDS",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=pathlib.Path, metavar="REPORT", help="a folder"
    )
    parser.add_argument("--weights", metavar="NAME|PATH", help="(default: the packaged model)")
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=runner.DEFAULT_RATES,
        metavar="R",
        help="the rates to measure (default: 0 1 2 3)",
    )
    parser.add_argument(
        "--dataset",
        choices=tuple(datasets.PROTOCOLS),
        help="what the folder is said to hold: checked, and measured by its published protocol",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=(),
        metavar="CODEC",
        help=f"of {', '.join(methods.ENCODERS)}: compare with these at the nearest file size of "
        "each picture; or other weights, at the same rates",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=quality.PAIR_METRICS,
        default=quality.DEFAULT_PAIR_METRICS,
        metavar="METRIC",
        help=f"of {', '.join(quality.PAIR_METRICS)} (default: all but lpips_vgg)",
    )
    parser.add_argument(
        "--inception",
        metavar="PATH|URL",
        help="pt_inception-2015-12-05-6726825d.pth, or the same tensors as .safetensors; FID and "
        "KID are computed only with it",
    )
    parser.add_argument(
        "--inception-sha256",
        default=inception_weights.SHA256,
        metavar="HEX",
        help="that file's SHA-256 (default: the published .pth file's)",
    )
    parser.add_argument(
        "--patch-size",
        type=int,
        metavar="PIXELS",
        help=f"of FID and KID (default: the data set's, otherwise {datasets.DEFAULT_PATCH_SIZE})",
    )
    parser.add_argument(
        "--background", metavar="COLOR", help="what to put behind transparent pixels: white, '#888'"
    )
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, metavar="N")
    parser.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="refuse pictures that need more, 4GB for example (default: what is free)",
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="write into a folder that holds other things"
    )
    return parser.parse_args()


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    max_memory = None if options.max_memory is None else memory.parse(options.max_memory)
    dataset = datasets.load(
        options.folder,
        options.dataset,
        options.max_pixels,
        background=options.background,
        leave_out=options.output,
    )
    with progress_bar() as progress:
        return runner.run(
            dataset,
            codec.load(options.weights, max_memory),
            options.output,
            rates=options.rates,
            against=[name for name in options.against if name in methods.ENCODERS],
            other_codecs=[
                codec.load(name, max_memory)
                for name in options.against
                if name not in methods.ENCODERS
            ],
            metrics=options.metrics,
            inception=options.inception,
            inception_sha256=options.inception_sha256,
            patch_size=options.patch_size,
            max_memory=max_memory,
            force=options.force,
            progress=progress,
        )


def summary(found: Mapping[str, Any]) -> str:
    """The averages as a table in plain text, and the notes."""
    labels = {method["id"]: method["label"] for method in found["methods"]}
    columns = [("bpp", "bpp", 4), ("estimated", "bpp_estimated", 4)]
    columns += [
        (about["label"], name, about["decimals"]) for name, about in found["metrics"].items()
    ]
    lines = [["codec", "rate", *(label for label, _, _ in columns)]]
    for row in found["averages"]:
        values = (
            "-" if row[name] is None else f"{row[name]:.{decimals}f}"
            for _, name, decimals in columns
        )
        lines.append([labels[row["method"]], row["point"], *values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = (
        [cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    )
    return "\n".join([*("  ".join(line) for line in table), *found["notes"]])


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar on standard error if that is a terminal, nothing otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        *(progress.TextColumn("{task.description}"), progress.BarColumn()),
        *(progress.MofNCompleteColumn(), progress.TimeRemainingColumn()),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, name: bar.update(
            task, completed=done, total=total, description=name
        )


if __name__ == "__main__":
    sys.exit(main())
