"""Compresses and decompresses a photograph with `glc` and shows the result beside AVIF's.

The photograph is scikit-learn's china.jpg unless another is named. Written to the output folder:
the .glc file, the decompressed PNG, the AVIF file, and side_by_side.png.
"""

import argparse
import bisect
import functools
import importlib.util
import io
import math
import pathlib
import shlex
import subprocess
import sys
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glc_jax import files, images

LABEL_HEIGHT = 40
GAP = 8
SHEET = "side_by_side.png"
AVIF_SPEED = 0  # the slowest, for the smallest file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=pathlib.Path, help="(default: china.jpg)")
    parser.add_argument("--rate", default="1.5", help="0 to 3 (default: %(default)s)")
    parser.add_argument("--weights", help="as in `glc compress` (default: the packaged model)")
    parser.add_argument("--output", type=pathlib.Path, default="demo_output", metavar="FOLDER")
    options = parser.parse_args()

    photo = options.photo or sample_photo()
    check_folder(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    stem = options.output / photo.stem
    file, decoded = stem.with_suffix(".glc"), stem.with_suffix(".png")
    weights = ["--weights", options.weights] if options.weights else []

    encode_seconds = glc("compress", photo, "-o", file, "--rate", options.rate, *weights)
    decode_seconds = glc("decompress", file, "-o", decoded, *weights)

    original, reconstruction = images.read(photo), images.read(decoded)
    avif, quality = nearest_avif(original, file.stat().st_size)
    files.write(stem.with_suffix(".avif"), avif)
    avif_picture = images.read(stem.with_suffix(".avif"))

    panels = [(f"original, {photo.stat().st_size:,} bytes", original)]
    for name, data, picture in (
        ("GLC", file.read_bytes(), reconstruction),
        (f"AVIF quality {quality}", avif, avif_picture),
    ):
        facts = (
            f"{name}: {len(data):,} bytes, {bits_per_pixel(data, picture):.4f} bpp, "
            f"PSNR {psnr(original, picture):.2f} dB"
        )
        print(facts)
        panels.append((facts, picture))
    print(f"compress {encode_seconds:.1f} s, decompress {decode_seconds:.1f} s, start-up included")
    picture = options.output / SHEET
    files.write(picture, images.encode(side_by_side(panels), picture.name))
    print(f"Look at {picture}")


def check_folder(folder: pathlib.Path) -> None:
    """Stops where a folder holds something else than an earlier demo's pictures."""
    filled = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if filled and not (folder / SHEET).is_file():
        sys.exit(f"{folder} holds something else; name an empty folder with --output.")


def sample_photo() -> pathlib.Path:
    """scikit-learn's photograph of a Chinese temple, found without importing scikit-learn."""
    package = importlib.util.find_spec("sklearn")
    if package is None:
        sys.exit("The photograph comes with scikit-learn: pip install scikit-learn, or name one.")
    return pathlib.Path(package.origin).parent / "datasets" / "images" / "china.jpg"


def glc(*arguments: str | pathlib.Path) -> float:
    """Runs `glc` as a process of its own and returns the seconds it took."""
    words = [str(word) for word in arguments]
    print("$ glc", shlex.join(words), flush=True)
    start = time.perf_counter()
    status = subprocess.run([sys.executable, "-m", "glc_jax", *words]).returncode
    if status:
        sys.exit(status)
    return time.perf_counter() - start


def nearest_avif(picture: np.ndarray, size: int) -> tuple[bytes, int]:
    """The AVIF file of the quality (0..100) whose size is nearest to `size`, and the quality."""

    @functools.cache
    def encode(quality: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "AVIF", quality=quality, speed=AVIF_SPEED)
        return buffer.getvalue()

    above = 0  # the lowest quality that is no smaller; most often AVIF's very lowest is larger
    if len(encode(0)) < size:
        above = bisect.bisect_left(range(101), size, key=lambda quality: len(encode(quality)))
    nearest = {max(above - 1, 0), min(above, 100)}
    quality = min(nearest, key=lambda quality: abs(len(encode(quality)) - size))
    return encode(quality), quality


def bits_per_pixel(data: bytes, picture: np.ndarray) -> float:
    return 8 * len(data) / (picture.shape[0] * picture.shape[1])


def psnr(original: np.ndarray, picture: np.ndarray) -> float:
    """In dB, over the 8-bit values of all channels."""
    error = np.mean((original.astype(np.float64) - picture) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


def side_by_side(panels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """The pictures in a row, each under its label."""
    height, width = panels[0][1].shape[:2]
    size = (len(panels) * (width + GAP) - GAP, height + LABEL_HEIGHT)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(10, min(24, width // 30)))
    for index, (label, picture) in enumerate(panels):
        x = index * (width + GAP)
        draw.text((x + 4, LABEL_HEIGHT // 2), label, "black", font, anchor="lm")
        sheet.paste(Image.fromarray(picture), (x, LABEL_HEIGHT))
    return np.asarray(sheet)


if __name__ == "__main__":
    main()
