"""The payload of a GLC file: the indices of z, then the residuals y_q of the four steps.

coder = SymbolCoder(tables.gaussian(), z_size=1024)
coded = coder.encode(z_indices, [(y_q, table_index) for each step])

decoder = coder.decoder(coded)
z_indices = decoder.z(count)
for each step: y_q = decoder.step(table_index)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from glc_jax.entropy.group_coders import CategoricalCoder, TableCoder
from glc_jax.entropy.range_coder import RangeDecoder, RangeEncoder
from glc_jax.entropy.tables import ScaleTables


class CodedSymbols(NamedTuple):
    """A payload and what its reader must know beside it.

    payload: the range coder's bytes. z_prior: z is coded with the static prior rather than
    uniformly. zeros_skipped: the residuals of table 0, all 0, are not in the stream.
    """

    payload: bytes
    z_prior: bool
    zeros_skipped: bool


class SymbolCoder:
    """Codes the symbols of files whose weights share the same tables; make it once, use it often.

    Args:
      tables: of the residuals.
      z_size: the number of codebook rows that an index of z can name.
      z_prior: int frequencies [z_size] of z's indices with the sum 2^24, or None. A file uses them
        where that is shorter than log2(z_size) bits an index.
    """

    def __init__(self, tables: ScaleTables, z_size: int, z_prior: np.ndarray | None = None) -> None:
        self.tables = tables
        self.z_coder = CategoricalCoder(z_size, z_prior)
        self.y_coder = TableCoder(tables)

    def z_bits(self, z_indices: np.ndarray) -> tuple[float, bool]:
        """What the indices of z cost, in bits, and whether that is with the static prior."""
        z_prior = self.z_coder.wants_option(z_indices)
        return float(self.z_coder.bits(z_indices, option=z_prior).sum()), z_prior

    def encode(
        self, z_indices: np.ndarray, steps: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> CodedSymbols:
        """Code one picture.

        Args:
          z_indices: int array, any shape, values in 0 .. z_size - 1.
          steps: (y_q, table_index) of each step: integer arrays of one shape, y_q within int16,
            table_index uint8.

        Raises:
          ValueError: a symbol is out of range.
        """
        z_prior = self.z_coder.wants_option(z_indices)
        zeros_skipped = all(self.y_coder.wants_option(*step) for step in steps)
        encoder = RangeEncoder()
        self.z_coder.encode(encoder, z_indices, option=z_prior)
        for y_q, table_index in steps:
            self.y_coder.encode(encoder, y_q, table_index, option=zeros_skipped)
        return CodedSymbols(encoder.finish(), z_prior, zeros_skipped)

    def decoder(self, coded: CodedSymbols) -> SymbolDecoder:
        """A reader of one payload, for calls in the order in which it was written."""
        return SymbolDecoder(self, coded)


class SymbolDecoder:
    """Reads what `SymbolCoder.encode` wrote: first `z`, then `step` for each step in turn."""

    def __init__(self, coder: SymbolCoder, coded: CodedSymbols) -> None:
        self._coder = coder
        self._coded = coded
        self._decoder = RangeDecoder(coded.payload)

    def z(self, count: int) -> np.ndarray:
        """The indices of z: int32 [count].

        Raises:
          BitstreamError: the payload is too short to hold so many, so that a lying size costs
            neither time nor memory; or it is damaged.
        """
        z_coder, option = self._coder.z_coder, self._coded.z_prior
        fewest = count * z_coder.fewest_bits(option)
        self._decoder.require(fewest, f"its size of {count} z indices")
        return z_coder.decode(self._decoder, np.broadcast_to(np.uint8(0), count), option=option)

    def step(self, table_index: np.ndarray) -> np.ndarray:
        """The residuals of one step: int16 in the shape of table_index (uint8).

        Raises:
          BitstreamError: the payload is damaged.
        """
        y_q = self._coder.y_coder.decode(
            self._decoder, table_index, option=self._coded.zeros_skipped
        )
        return y_q.astype(np.int16).reshape(table_index.shape)
