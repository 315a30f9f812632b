"""Made tests/data/version_2, once: weights of a small model, .glc files, and what they decode to.

    python -m tests.make_version_2_files FOLDER

The files in tests/data are not to be made anew: they are what later releases must still read.
Version 1's were made in the same way, with what wrote it then.
"""

import pathlib
import sys

import numpy as np

from glc_jax import weights
from glc_jax.codec import Codec
from tests import kept_files, small_model

SHAPE = (64, 96)
ODD_SHAPE = (37, 51)
RATES = {"flat": 3.0, "rate_0": 0.0, "rate_1": 1.0, "rate_2": 2.0, "rate_3": 3.0, "odd": 1.7}


def make_weights(path: pathlib.Path, pictures: list[np.ndarray]) -> weights.Weights:
    """The parameters of version 1's weights, exported anew: the codebook is made of values of z."""
    params = weights.load(kept_files.folder(1) / path.name).tree["params"]
    images = np.stack([picture for picture in pictures if picture.shape[:2] == SHAPE])
    tree = small_model.tree_of(params, images, (np.arange(len(images)) + 3) % 4.0)
    weights.save(path, tree, {"name": "small", "model": small_model.MODEL})
    return weights.load(path)


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"flat": np.full((*SHAPE, 3), 90, np.uint8)}
    pictures |= {f"rate_{rate}": small_model.picture(*SHAPE, seed=rate) for rate in range(4)}
    pictures["odd"] = small_model.picture(*ODD_SHAPE, seed=4)
    codec = Codec(make_weights(folder / "small.safetensors", list(pictures.values())))
    for name, picture in pictures.items():
        data = codec.compress(picture, rate=RATES[name])
        (folder / f"{name}.glc").write_bytes(data)
        found = kept_files.decode(data, codec)
        found["z_indices"] = found["z_indices"].astype(np.int16)
        np.savez_compressed(folder / f"{name}.npz", **found, image=codec.decompress(data))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
