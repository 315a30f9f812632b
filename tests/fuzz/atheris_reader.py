"""Coverage-guided fuzzing of the container, with atheris (not a dependency; pip install atheris).

    python -m tests.fuzz.atheris_reader [-max_total_time=60] [CORPUS]

Feeds arbitrary bytes, and the same bytes behind a right check, to the parser and the range coder;
stops at the first exception that is not a GLCError.
"""

import binascii
import sys

import atheris

with atheris.instrument_imports():
    from glc_jax import bitstream
    from glc_jax.entropy import tables
    from glc_jax.entropy.symbol_coder import CodedSymbols, SymbolCoder
    from glc_jax.errors import GLCError

import numpy as np

CODER = SymbolCoder(tables.gaussian(), z_size=1024)
TABLE_INDEX = (np.arange(4096) % 150).astype(np.uint8)


def read(data: bytes) -> None:
    try:
        container = bitstream.parse(data)
        decoder = CODER.decoder(
            CodedSymbols(container.payload, container.z_prior, container.zeros_skipped)
        )
        decoder.z(-(-container.height // 64) * -(-container.width // 64))
        decoder.step(TABLE_INDEX)
    except GLCError:
        pass


def test_one_input(data: bytes) -> None:
    read(data)
    read(data + binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "big"))
    body = b"\xc7\x41" + data
    read(body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
