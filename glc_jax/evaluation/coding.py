"""What writing and reading real files costs beyond the float model: bytes, and seconds."""

from typing import NamedTuple

import numpy as np

from glc_jax import bitstream
from glc_jax.codec import Codec
from glc_jax.timing import fastest
from glc_jax.weights import Weights

REPEATS = 3


class Coding(NamedTuple):
    """One picture at one rate.

    Attributes:
      bytes: of the real file.
      payload: bytes of it that the range coder wrote.
      float_bits: the float model's estimate of y and z, z at log2(codebook) bits an index.
      float_y_bits, exact_y_bits: what y costs by the float model and by the integer one.
      z_count: indices of z.
      z_bits: what they cost in the file.
      symbols: positions of y and z.
      compress_seconds, decompress_seconds: from pixels to bytes and back, compiled.
      encode_seconds, decode_seconds: the part of them that is entropy coding: integer networks,
        rounding and range coder.
      coder_encode_seconds, coder_decode_seconds: the range coder alone; the latter is a difference
        of times, and 0 where their noise is more.
    """

    bytes: int
    payload: int
    float_bits: float
    float_y_bits: float
    exact_y_bits: float
    z_count: int
    z_bits: float
    symbols: int
    compress_seconds: float
    decompress_seconds: float
    encode_seconds: float
    decode_seconds: float
    coder_encode_seconds: float
    coder_decode_seconds: float


class CodingMeter:
    """Measures pictures with one weights file.

    Raises WeightsError where the weights have no integer entropy networks.
    """

    def __init__(self, loaded: Weights) -> None:
        self.codec = Codec(loaded)
        self._model = self.codec.entropy_model

    def measure(self, picture: np.ndarray, rate: float) -> Coding:
        """A picture uint8 [height, width, 3] at a rate; every time is the fastest of three."""
        highest = self.codec.highest_rate
        rate = bitstream.rate_of(bitstream.nearest_level(rate, highest), highest)
        compress, data = fastest(lambda: self.codec.compress(picture, rate), REPEATS)
        decompress, _ = fastest(lambda: self.codec.decompress(data), REPEATS)
        estimate = self.codec.estimate(picture, rate)

        targets = self.codec.analyse(picture, rate)
        networks_encode, coded = fastest(lambda: self._model.encode(targets), REPEATS)
        coder_encode, _ = fastest(lambda: self._model.write(coded), REPEATS)
        container = bitstream.parse(data, max_pixels=None)
        decode, _ = fastest(lambda: self.codec.decode_symbols(container), REPEATS)
        bits = self._model.bits(coded)
        exact_y_bits = sum(spent for name, spent in bits.items() if name.split("/")[0] == "y")
        return Coding(
            bytes=len(data),
            payload=len(container.payload),
            float_bits=estimate.bits_y + estimate.bits_z,
            float_y_bits=estimate.bits_y,
            exact_y_bits=exact_y_bits,
            z_count=estimate.z_indices.size,
            z_bits=sum(bits.values()) - exact_y_bits,
            symbols=sum(symbols.size for symbols in coded.symbols.values()),
            compress_seconds=compress,
            decompress_seconds=decompress,
            encode_seconds=networks_encode + coder_encode,
            decode_seconds=decode,
            coder_encode_seconds=coder_encode,
            # The decoder alternates with the programs: what is left of it without theirs.
            coder_decode_seconds=max(decode - networks_encode, 0.0),
        )
