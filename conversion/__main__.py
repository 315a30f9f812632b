"""python -m conversion CHECKPOINT -o WEIGHTS: official checkpoints to weights files, and back."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from glc_jax import weights
from glc_jax.errors import GLCError


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=(
            "Converts checkpoints of PyTorch, without PyTorch: GLC, a stage-I VQ-VAE, CodeFormer's "
            "vqgan_code1024.pth, a discriminator, AlexNet, VGG16, LPIPS heads, FID's Inception v3."
        ),
    )
    parser.add_argument("source", type=pathlib.Path, help="a file of torch.save, or .safetensors")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="file to write")
    parser.add_argument(
        "-f", "--force", action="store_true", help="replace a file that is no weights file"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--config",
        type=pathlib.Path,
        help="model config, such as configs/tiny.py, of a checkpoint that is not a released one",
    )
    parser.add_argument(
        "--calibrate",
        type=pathlib.Path,
        nargs="+",
        default=(),
        metavar="PICTURE",
        help="pictures or folders by which the ranges of GLC's integer networks are chosen "
        "(default: a few synthetic ones)",
    )
    parser.add_argument(
        "--to-torch",
        action="store_true",
        help="the other way: weights file to a state dict with the official names, "
        ".safetensors or (with torch installed) .pth.tar",
    )
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "python -m conversion") -> int:
    """Runs the command; returns the exit status (1 after an error, whose sentence it prints)."""
    options = _parser(prog).parse_args(arguments)
    # Imported late: --help need not wait for JAX.
    from . import convert, kinds

    try:
        weights.check_output(options.output, [options.source], options.force)
        if options.to_torch:
            count = convert.to_torch(options.source, options.output)
            print(f"wrote {options.output}: {count} tensors with the official names")
            return 0
        config = kinds.load_config(options.config) if options.config else None
        report = convert.to_weights(
            options.source, options.output, options.dtype, config, options.calibrate
        )
    except GLCError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in report.found:
        print(f"found {line}")
    for line in report.aside:
        print(f"left aside {line}")
    if report.cost:
        print(
            f"integer entropy networks: {report.cost.exact:,.0f} bits where the float model "
            f"estimates {report.cost.estimated:,.0f} ({report.cost.share:+.2%}, kernels of "
            f"{report.cost.kernel_bits} bits)"
        )
    written = report.written
    print(
        f"wrote {written.path}: {written.file_bytes:,} bytes, {options.dtype}, "
        f"fingerprint {written.fingerprint.hex()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
