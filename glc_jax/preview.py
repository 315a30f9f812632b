"""A rough picture straight from y_hat: a linear map in place of g_s and G, and of all compiling.

The map gives the means of the picture over PIXELS x PIXELS pixels, of each position of y_hat from
it and its eight neighbours. It is fitted by least squares when weights are exported (`Fit`), and
lies in their file as "preview/map", float16 [P, 9, C + 1, cells, cells, 3] in the model's range of
pixels: one map for each rate point, since the scale of y is another at each; between the points it
is interpolated. Of the C + 1 rows of a neighbour the last is its constant.

What a preview looks like decides nothing about a file, so the map is no part of a fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glc_jax import bitstream, host, memory
from glc_jax.errors import WeightsError
from glc_jax.weights import Weights

PIXELS = 4
"""A side of what a preview has one colour for."""

HOST_PIXELS = 2**21
"""Beyond so many, compiling the entropy model costs less than running it in NumPy."""

RIDGE = 1e-4
"""What the diagonal of the normal equations is raised by, of its mean."""

SHARED = 1e-3
"""The weight of all rates' samples beside those of a map's own."""

_NEIGHBOURS = [(row, column) for row in range(3) for column in range(3)]


class Fit:
    """Least squares from y_hat to the colours of cells, for each rate point."""

    def __init__(self, rate_points: int, channels: int, downsampling: int) -> None:
        self._channels, self._cells = channels, downsampling // PIXELS
        size, colours = len(_NEIGHBOURS) * channels + 1, 3 * self._cells**2
        self._products = np.zeros((rate_points, size, size))
        self._sums = np.zeros((rate_points, size, colours))

    def add(self, y_hat: np.ndarray, points: Sequence[int], pictures: np.ndarray) -> None:
        """Samples: y_hat [B, h, w, C] at rate points [B], of pictures uint8 [B, H, W, 3]."""
        for one, point, picture in zip(y_hat, points, pictures, strict=True):
            known = np.concatenate(_shifted(one.astype(np.float64)), axis=-1)
            known = known.reshape(-1, known.shape[-1])
            known = np.concatenate([known, np.ones((len(known), 1))], axis=-1)
            colours = _cells(picture, one.shape[:2], self._cells)
            self._products[point] += known.T @ known
            self._sums[point] += known.T @ colours

    def solve(self) -> dict[str, np.ndarray]:
        """What a weights file holds under "preview"."""
        maps = []
        for products, sums in zip(self._products, self._sums, strict=True):
            products = products + SHARED * self._products.sum(0)
            ridge = RIDGE * np.trace(products) / len(products)
            solved = np.linalg.lstsq(
                products + ridge * np.eye(len(products)), sums + SHARED * self._sums.sum(0)
            )[0]
            rows = np.zeros((len(_NEIGHBOURS), self._channels + 1, solved.shape[1]))
            rows[:, :-1] = solved[:-1].reshape(len(_NEIGHBOURS), self._channels, -1)
            rows[len(_NEIGHBOURS) // 2, -1] = solved[-1]
            maps.append(rows.reshape(*rows.shape[:2], self._cells, self._cells, 3))
        return {"map": np.array(maps, np.float16)}


def draw(
    stored: Mapping[str, Any], y_hat: np.ndarray, rate: float, height: int, width: int
) -> np.ndarray:
    """The picture of y_hat [1, h, w, C] at a rate: uint8 [height, width, 3].

    Raises:
      WeightsError: what the weights file holds is no map for such a y_hat.
    """
    from PIL import Image

    _, h, w, channels = y_hat.shape
    maps = np.asarray(stored.get("map"))
    fits = maps.ndim == 6 and maps.shape[1:3] == (len(_NEIGHBOURS), channels + 1)
    fits = fits and maps.shape[0] > rate and 0 < maps.shape[3] == maps.shape[4] <= 16
    if not (fits and maps.shape[5] == 3 and maps.dtype == np.float16 and np.isfinite(maps).all()):
        raise WeightsError("The preview map of the weights is malformed.")
    low = min(int(rate), len(maps) - 1)
    high, share = min(low + 1, len(maps) - 1), np.float32(rate - low)
    at_rate = (1 - share) * maps[low].astype(np.float32) + share * maps[high].astype(np.float32)
    cells = maps.shape[3]
    total = np.zeros((h, w, cells * cells * 3), np.float32)
    for values, rows in zip(_shifted(y_hat[0]), at_rate, strict=True):
        flat = rows.reshape(channels + 1, -1)
        total += values @ flat[:-1] + flat[-1]
    small = total.reshape(h, w, cells, cells, 3).transpose(0, 2, 1, 3, 4)
    small = small.reshape(h * cells, w * cells, 3)
    levels = np.clip(np.rint((small + 1) * 127.5), 0, 255).astype(np.uint8)
    size = (w * cells * PIXELS, h * cells * PIXELS)
    large = Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(large)[:height, :width]


def of_file(
    container: bitstream.Container,
    loaded: Weights,
    plugins: Sequence[str] = (),
    max_memory: int | None = None,
) -> np.ndarray | None:
    """The preview of a parsed file, without JAX: uint8 [height, width, 3].

    None where the weights have no map, or the picture is so large that JAX is quicker.

    Raises:
      BitstreamError: damaged, or coded with other weights.
      TooLargeError: it needs more memory than there is.
      WeightsError, InputError: as `host.entropy_model`.
    """
    height, width = container.height, container.width
    if loaded.preview is None or height * width > HOST_PIXELS:
        return None
    bitstream.require_weights(container, loaded.fingerprint, loaded.config["name"])
    size, model = host.coarsest(container, loaded), host.entropy_model(loaded, plugins)
    coding = model.needed_bytes(*size)
    needed = memory.preview_bytes(loaded.config["model"], height, width, coding)
    memory.require(needed, max_memory, height, width, "to preview")
    coded = model.decode(container.payload, container.options, *size)
    bitstream.require_symbols(container, *(values[0] for values in coded.values.values()))
    highest = float(loaded.config["model"]["rate_points"] - 1)
    return draw(loaded.preview, model.latent(coded, "y"), container.rate(highest), height, width)


def _shifted(values: np.ndarray) -> list[np.ndarray]:
    """[h, w, C] as each of the nine neighbours: edges are repeated."""
    height, width, _ = values.shape
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return [padded[row : row + height, column : column + width] for row, column in _NEIGHBOURS]


def _cells(picture: np.ndarray, positions: tuple[int, ...], cells: int) -> np.ndarray:
    """The colours of each position's cells, -1 .. 1: [h * w, cells * cells * 3]."""
    h, w = positions
    sides = picture.shape[0] // (h * cells), picture.shape[1] // (w * cells)
    means = picture.reshape(h, cells, sides[0], w, cells, sides[1], 3).mean((2, 5))
    return (means.transpose(0, 2, 1, 3, 4) / 127.5 - 1).reshape(h * w, -1)
