"""How far the files and pictures of the fast mode or of another engine are from the usual ones."""

from typing import NamedTuple

import numpy as np

from glc_jax.codec import Codec
from glc_jax.metrics.psnr import psnr


class Difference(NamedTuple):
    """One picture at one rate, in the usual way and in another.

    Attributes:
      symbols: in the file.
      others: of them differ.
      bytes, other_bytes: of the files.
      psnr: in dB, between what both draw of the usual file; inf where they are equal.
      largest: difference between them, in levels of 8 bits.
      to_original, other_to_original: PSNR in dB of each way's picture of its own file.
    """

    symbols: int
    others: int
    bytes: int
    other_bytes: int
    psnr: float
    largest: int
    to_original: float
    other_to_original: float


def compare(usual: Codec, other: Codec, picture: np.ndarray, rate: float, fast: bool) -> Difference:
    """Of a picture uint8 [height, width, 3]; fast: whether the other is in its fast mode."""
    data, other_data = usual.compress(picture, rate), other.compress(picture, rate, fast=fast)
    symbols, others = (
        np.concatenate([one.reshape(-1) for one in coded.symbols.values()])
        for coded in (usual.decode_symbols(usual._container(d, None)) for d in (data, other_data))
    )
    drawn, drawn_by_other, own = (
        usual.decompress(data),
        other.decompress(data, fast=fast),
        other.decompress(other_data, fast=fast),
    )
    return Difference(
        symbols.size,
        int((symbols != others).sum()),
        len(data),
        len(other_data),
        _psnr(drawn, drawn_by_other),
        int(np.abs(drawn.astype(int) - drawn_by_other).max()),
        _psnr(drawn, picture),
        _psnr(own, picture),
    )


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(psnr(one[None], other[None])[0])
