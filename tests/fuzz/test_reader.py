"""Any byte string ends in a picture or a GLCError, soon and in little memory."""

import contextlib
import dataclasses
import pathlib
import resource
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_jax import bitstream, weights
from glc_jax.codec import Codec
from glc_jax.errors import BitstreamError, GLCError, TooLargeError

FOLDER = pathlib.Path(__file__).parents[1] / "data" / "version_1"
DATA = (FOLDER / "odd.glc").read_bytes()
SECONDS = 5.0


@pytest.fixture(scope="module")
def codec():
    codec = Codec(weights.load(FOLDER / "small.safetensors"))
    codec.decompress(DATA)  # compiles
    return codec


def forged(container: bitstream.Container) -> bytes:
    """A file whose own check is right, whatever it says."""
    return bitstream.serialise(container)


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=200)
def test_random_bytes(codec, data):
    with contextlib.suppress(GLCError):
        codec.decompress(data)


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=50)
def test_random_payloads_behind_right_headers(codec, payload):
    """They pass the file's check; what they decode to does not pass the symbols'."""
    container = dataclasses.replace(bitstream.parse(DATA), payload=payload)
    with contextlib.suppress(BitstreamError):
        assert codec.decompress(forged(container)).shape == (37, 51, 3)


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_altered_payloads_behind_right_headers(codec, data):
    payload = bytearray(bitstream.parse(DATA).payload)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    container = dataclasses.replace(bitstream.parse(DATA), payload=bytes(payload))
    with contextlib.suppress(BitstreamError):
        codec.decompress(forged(container))


def test_every_truncation(codec):
    for length in range(len(DATA)):
        with pytest.raises(BitstreamError):
            codec.decompress(DATA[:length])


def test_every_flipped_bit(codec):
    for position in range(8 * len(DATA)):
        flipped = bytearray(DATA)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            codec.decompress(bytes(flipped))


def test_appended_bytes(codec):
    with pytest.raises(BitstreamError):
        codec.decompress(DATA + b"\0")


@pytest.mark.parametrize("side", [7000, 2**14, 2**20, 2**30])
@pytest.mark.parametrize("limit", [bitstream.DEFAULT_MAX_PIXELS, None])
def test_sizes_that_lie_cost_neither_time_nor_memory(codec, side, limit):
    """A size under the limit, or with no limit at all, is refused by the payload's length."""
    container = dataclasses.replace(bitstream.parse(DATA), width=side, height=side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()  # what else the machine does does not count
    with pytest.raises((BitstreamError, TooLargeError)):
        codec.decompress(forged(container), max_pixels=limit)
    with pytest.raises(BitstreamError):
        codec.verify(forged(container), max_pixels=limit)
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def test_a_wrong_flag_behind_a_right_check_is_noticed(codec):
    parsed = bitstream.parse(DATA)
    changed = dataclasses.replace(parsed, options=parsed.options ^ 1)
    with pytest.raises(BitstreamError):
        codec.decompress(forged(changed))
