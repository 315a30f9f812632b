"""Makes tests/data/golden_slices.npz from ../shared/reference/golden_b.npz.

    python -m tests.models.make_golden_slices

The inputs of the pipeline are kept whole and of each output every n-th value, so that the models
can be checked where the golden files are not.
"""

import pathlib

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WHOLE = ("image", "q_index", "z_indices", "y_q", "bit_y", "seed")
SLICED = ("latent", "y", "z", "prior_params", "scales", "y_hat", "latent_hat", "x_hat", "x_hat_u8")
VALUES = 500


def take_slice(array: np.ndarray) -> np.ndarray:
    """About VALUES values, evenly spread, of an array [C, H, W] or [H, W, C]."""
    return array.reshape(-1)[:: array.size // VALUES | 1]


def main() -> None:
    """Write the file."""
    golden = np.load(REPOSITORY.parent / "shared" / "reference" / "golden_b.npz")
    arrays = {name: golden[name] for name in WHOLE}
    arrays |= {name: take_slice(golden[name]) for name in SLICED}
    np.savez_compressed(REPOSITORY / "tests" / "data" / "golden_slices.npz", **arrays)


if __name__ == "__main__":
    main()
