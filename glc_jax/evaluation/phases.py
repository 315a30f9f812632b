"""Time and memory of coding one picture, phase by phase, in a process of its own.

    python -m glc_jax.evaluation.phases WIDTH HEIGHT [--weights W] [--max-memory 4GB] [--repeats N]

prints one JSON object. scripts/benchmark.py runs it for several sizes: what a process has taken at
most cannot be taken back, so each size has its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from glc_jax import bitstream, engines
from glc_jax.codec import Codec
from glc_jax.memory import resident_bytes

T = TypeVar("T")

PHASES = ("E", "entropy coding", "entropy decoding", "G")


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Clouds of colour with grain: uint8 [height, width, 3]."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 64 + 2, width // 64 + 2, 3), dtype=np.uint8)
    image = np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    for row in range(0, height, 256):
        part = image[row : row + 256]
        grain = rng.integers(-8, 9, part.shape, dtype=np.int16)
        part[:] = np.clip(part + grain, 0, 255)
    return image


class Meter:
    """Runs the phases of one picture and notes what each takes."""

    def __init__(self) -> None:
        self.notes: dict[str, list[dict[str, float]]] = {phase: [] for phase in PHASES}

    def __call__(self, phase: str, function: Callable[..., T], *arguments: Any, **more: Any) -> T:
        """The function's result; JAX's arrays in it are waited for."""
        import jax

        _forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(function(*arguments, **more))
        self.notes[phase].append(
            {
                "seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "peak_bytes": _peak_bytes(),
                "before_bytes": resident_bytes(),
            }
        )
        return result

    def summary(self) -> dict[str, dict[str, float]]:
        """Of each phase: the first run, and medians and extremes of those after it."""
        return {phase: _summary(notes) for phase, notes in self.notes.items()}


def measure(
    codec: Codec, image: np.ndarray, rate: float, repeats: int, fast: bool = False
) -> dict[str, Any]:
    """Codes and decodes a picture 1 + `repeats` times; the first run compiles."""
    meter, peak = Meter(), _peak_bytes()
    height, width = image.shape[:2]
    level = bitstream.nearest_level(rate, codec.highest_rate)
    for _ in range(1 + repeats):
        side = codec._encoder_side(restore=False, fast=fast)
        latent = meter("E", codec._latent, image, side)
        data = meter("entropy coding", codec._code_latent, side, latent, image.shape, level)
        del latent
        container = codec._container(data, None)
        y_hat = meter("entropy decoding", codec._decode_latent, container)
        left = codec.require_memory(height, width, "decompress")
        rate = container.rate(codec.highest_rate)
        meter("G", codec._reconstruct, y_hat, rate, height, width, left, fast=fast)
        engines.finish()  # what the first run keeps for other processes is not the second's work
    found = meter.summary()
    return {
        "width": width,
        "height": height,
        "megapixels": width * height / 1e6,
        "bytes": len(data),
        "phases": found,
        "peak_bytes": max(peak, *(phase["peak_bytes"] for phase in found.values())),
    }


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _summary(notes: list[dict[str, float]]) -> dict[str, float]:
    later = notes[1:] or notes
    seconds = [note["seconds"] for note in later]
    return {
        "first_seconds": notes[0]["seconds"],
        "seconds": statistics.median(seconds),
        "seconds_least": min(seconds),
        "seconds_most": max(seconds),
        "cpu_seconds": statistics.median(note["cpu_seconds"] for note in later),
        "peak_bytes": max(note["peak_bytes"] for note in notes),
    }


def _forget_peak() -> None:
    """Starts the count of the most memory held anew, where the system lets us (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    """The most held since `_forget_peak`, or else since the process began."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def main(arguments: list[str] | None = None) -> int:
    """The command above."""
    from glc_jax import codec as codecs

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--weights", help="packaged name or file (default: the packaged model)")
    parser.add_argument("--max-memory", help="such as 4GB")
    parser.add_argument("--engine", help="xla or openvino (default: as `glc` chooses)")
    parser.add_argument("--fast", action="store_true", help="as glc --fast")
    parser.add_argument("--rate", type=float, default=1.5)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args(arguments)
    codec = codecs.load(options.weights, options.max_memory, engine=options.engine)
    image = picture(options.width, options.height)
    found = measure(codec, image, options.rate, options.repeats, options.fast)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
