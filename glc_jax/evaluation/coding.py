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
      coder_encode_seconds, coder_decode_seconds: the range coder alone.
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
        self._networks = self.codec.entropy_networks
        self._coder = self.codec.symbol_coder

    def measure(self, picture: np.ndarray, rate: float) -> Coding:
        """A picture uint8 [height, width, 3] at a rate; every time is the fastest of three."""
        rate = bitstream.nearest_rate(rate)
        compress, data = fastest(lambda: self.codec.compress(picture, rate), REPEATS)
        decompress, _ = fastest(lambda: self.codec.decompress(data), REPEATS)
        estimate = self.codec.estimate(picture, rate)

        y, z = self.codec.analyse(picture, rate)
        networks_encode, latent = fastest(lambda: self._networks.encode(z, y), REPEATS)
        steps = [(y_q[0], table[0]) for y_q, table in latent.steps]
        coder_encode, coded = fastest(lambda: self._coder.encode(z[0], steps), REPEATS)

        def read() -> None:
            decoder = self._coder.decoder(coded)
            decoder.z(z.size)
            for _, table in steps:
                decoder.step(table)

        def decode() -> None:
            decoder = self._coder.decoder(coded)
            indices = decoder.z(z.size).reshape(z.shape)
            self._networks.decode(indices, lambda step, table: decoder.step(table[0])[None])

        container = bitstream.parse(data, max_pixels=None)
        tables = self._networks.tables
        return Coding(
            bytes=len(data),
            payload=len(container.payload),
            float_bits=estimate.bits_y + estimate.bits_z,
            float_y_bits=estimate.bits_y,
            exact_y_bits=sum(float(np.sum(tables.bits(*step))) for step in latent.steps),
            z_count=z.size,
            z_bits=self._coder.z_bits(z[0])[0],
            symbols=y.size + z.size,
            compress_seconds=compress,
            decompress_seconds=decompress,
            encode_seconds=networks_encode + coder_encode,
            decode_seconds=fastest(decode, REPEATS)[0],
            coder_encode_seconds=coder_encode,
            coder_decode_seconds=fastest(read, REPEATS)[0],
        )
