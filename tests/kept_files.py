"""The files of tests/data/version_1 and version_2: small weights, .glc files, what they hold.

Each folder has small.safetensors, and for each name a file NAME.glc and NAME.npz with what it
decodes to: z_indices [H, W], y_q and y_hat (fixed point) [4H, 4W, C], image.
"""

import pathlib

import numpy as np

from glc_jax import bitstream
from glc_jax.codec import Codec

VERSIONS = (1, 2)
SAME_SIZE = tuple(f"rate_{rate}" for rate in range(4))
"""Names of files of one size."""


def folder(version: int) -> pathlib.Path:
    """Where the files of a version lie."""
    return pathlib.Path(__file__).parent / "data" / f"version_{version}"


def files(version: int) -> dict[str, tuple[bytes, dict[str, np.ndarray]]]:
    """By name a file's bytes and what it decodes to."""
    found = {}
    for path in sorted(folder(version).glob("*.glc")):
        with np.load(path.with_suffix(".npz")) as recorded:
            found[path.stem] = path.read_bytes(), dict(recorded)
    return found


def decode(data: bytes, codec: Codec) -> dict[str, np.ndarray]:
    """The integers of a file, by the library."""
    coded = codec.decode_symbols(bitstream.parse(data))
    return {
        "z_indices": coded.symbols["z"][0],
        "y_q": coded.symbols["y"][0],
        "y_hat": coded.values["y"][0],
    }
