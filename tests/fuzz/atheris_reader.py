"""Coverage-guided fuzzing of the container, with atheris (not a dependency; pip install atheris).

    python -m tests.fuzz.atheris_reader [-max_total_time=60] [CORPUS]

Feeds arbitrary bytes, and the same bytes behind a right check, to the parser and the entropy
decoder; stops at the first exception that is not a GLCError.
"""

import binascii
import pathlib
import sys

import atheris

with atheris.instrument_imports():
    from glc_jax import bitstream, weights
    from glc_jax.entropy.exact_model import ExactModel
    from glc_jax.entropy.integer import HostFloat64
    from glc_jax.errors import GLCError

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "version_1"
MODEL = ExactModel(weights.load(FOLDER / "small.safetensors").entropy, HostFloat64())


def read(data: bytes) -> None:
    try:
        container = bitstream.parse(data, max_pixels=1 << 20)
        height, width = -(-container.height // 64), -(-container.width // 64)
        MODEL.decode(container.payload, container.options, height, width)
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
