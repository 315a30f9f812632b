"""The patches that FID and KID of large pictures are computed on.

The protocol of learned compression at low rates (Mentzer et al., HiFiC, NeurIPS 2020, appendix
A.7; Muckley et al., MS-ILLM, ICML 2023): non-overlapping square patches, and once more after a
shift of half a patch in both directions.
"""

import numpy as np


def count(height: int, width: int, size: int) -> int:
    """How many patches `cut` gives for a picture of this height and width, in pixels."""
    return sum(
        max(0, (height - start) // size) * max(0, (width - start) // size)
        for start in _starts(height, width, size)
    )


def cut(image: np.ndarray, size: int) -> np.ndarray:
    """The patches of one picture [H, W, C]: [N, size, size, C], row by row, then the shifted.

    What does not fill a patch at the right and the bottom is dropped. The shifted grid starts
    at (size//2, size//2) and is taken only where both sides are at least 1.5 * size.
    """
    grids = [np.empty((0, size, size, image.shape[2]), image.dtype)]
    for start in _starts(*image.shape[:2], size):
        rows, columns = ((side - start) // size for side in image.shape[:2])
        if rows and columns:
            part = image[start : start + rows * size, start : start + columns * size]
            part = part.reshape(rows, size, columns, size, -1).swapaxes(1, 2)
            grids.append(part.reshape(rows * columns, size, size, -1))
    return np.concatenate(grids)


def _starts(height: int, width: int, size: int) -> tuple[int, ...]:
    return (0, size // 2) if 2 * min(height, width) >= 3 * size else (0,)
