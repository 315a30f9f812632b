"""What writing and reading real files costs beyond the float model: bytes, and seconds."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import bitstream
from glc_jax.codec import Codec, to_model_range
from glc_jax.entropy.exact import EntropyNetworks
from glc_jax.entropy.range_coder import SymbolCoder
from glc_jax.models import glc
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
    """Measures pictures with one weights file; made once, it compiles once per size.

    Raises WeightsError where the weights have no integer entropy networks.
    """

    def __init__(self, loaded: Weights) -> None:
        self.codec = Codec(loaded)
        self._multiple = glc.size_multiple(loaded.config["model"])
        self._networks = EntropyNetworks(loaded.tree["exact"])
        self._coder = SymbolCoder(
            self._networks.tables,
            z_size=loaded.config["model"]["hyper_codebook_size"],
            z_prior=loaded.tree.get("z_prior", {}).get("frequencies"),
        )
        model = glc.build({**loaded.config["model"], "code_predictor": None})

        @jax.jit
        def analyse(params: Any, pixels: jax.Array, rate: jax.Array) -> tuple:
            variables = {"params": params}
            latent = model.apply(variables, to_model_range(pixels), method="encode")
            y = model.apply(variables, latent, rate, method="analysis")
            z = model.apply(variables, y, method="hyper_analysis")
            return y, model.apply(variables, z, method="quantize_z").indices

        self._analyse = analyse

    def measure(self, picture: np.ndarray, rate: float) -> Coding:
        """A picture uint8 [height, width, 3] at a rate; every time is the fastest of three."""
        rate = bitstream.nearest_rate(rate)
        compress, data = _timed(lambda: self.codec.compress(picture, rate))
        decompress, _ = _timed(lambda: self.codec.decompress(data))
        estimate = self.codec.estimate(picture, rate)

        height, width = picture.shape[:2]
        padding = ((0, -height % self._multiple), (0, -width % self._multiple), (0, 0))
        padded = np.pad(picture, padding, mode="edge")[None]
        y, z = self._analyse(self.codec.params, jnp.asarray(padded), np.float32([rate]))
        y, z = np.asarray(y), np.asarray(z)
        networks_encode, latent = _timed(lambda: self._networks.encode(z, y))
        steps = [(y_q[0], table[0]) for y_q, table in latent.steps]
        coder_encode, coded = _timed(lambda: self._coder.encode(z[0], steps))

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
            decode_seconds=_timed(decode)[0],
            coder_encode_seconds=coder_encode,
            coder_decode_seconds=_timed(read)[0],
        )


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest of some runs after one that does not count, and what it gave."""
    result, best = run(), math.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result
