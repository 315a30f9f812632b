import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glc_jax import bitstream
from glc_jax.bitstream import Container
from glc_jax.errors import BitstreamError

EXAMPLE = Container(
    width=768,
    height=512,
    level=126,
    fingerprint=b"\x12\x34",
    payload=bytes(range(100)),
    options=1,
    symbols_check=0xBEEF,
)

containers = st.builds(
    Container,
    width=st.integers(1, 2**30) | st.integers(1, 2**14),
    height=st.integers(1, 2**30) | st.integers(1, 2**14),
    level=st.integers(0, 252),
    fingerprint=st.binary(min_size=2, max_size=2),
    payload=st.binary(max_size=50),
    options=st.integers(0, 3),
    symbols_check=st.integers(0, 0xFFFF),
)


@given(containers)
def test_round_trip(container):
    data = bitstream.serialise(container)
    assert bitstream.parse(data, max_pixels=None) == container
    assert len(data) == len(container.payload) + bitstream.overhead(
        container.width, container.height
    )


def test_bytes_are_those_of_the_specification():
    data = bitstream.serialise(dataclasses.replace(EXAMPLE, payload=b"\xaa\xbb"))
    size = 1 << 28 | 511 << 14 | 767
    assert data.hex() == f"c742{size:08x}" + "7e" + "1234" + "aabb" + "beef" + data[-2:].hex()
    assert int.from_bytes(data[-2:], "big") == crc16(data[:-2])


def crc16(data):
    """CRC-16 with the polynomial 0x1021, starting from 0xFFFF, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


@pytest.mark.parametrize("side", [1, 2**14])
def test_overhead_is_13_bytes(side):
    data = bitstream.serialise(dataclasses.replace(EXAMPLE, width=side, height=side, payload=b""))
    assert len(data) == 13


def test_rates_of_the_grid_are_exact():
    for steps in (3, 6, 12, 63):
        for i in range(steps + 1):
            rate = 3 * i / steps
            level = bitstream.nearest_level(rate, 3)
            data = bitstream.serialise(dataclasses.replace(EXAMPLE, level=level))
            assert bitstream.parse(data).rate(3) == pytest.approx(rate, abs=1e-15)


@pytest.mark.parametrize("highest", [0, 1, 2, 5, 7])
def test_any_number_of_rate_points_fills_the_range(highest):
    """The points of models with up to eight of them are exact, but for 5 and 7 intervals."""
    for point in range(highest + 1):
        found = bitstream.rate_of(bitstream.nearest_level(point, highest), highest)
        assert found == pytest.approx(point, abs=highest / 504)


def test_version_1_stated_multiples_of_1_84():
    old = dataclasses.replace(EXAMPLE, version=1, level=84)
    assert bitstream.parse(bitstream.serialise(old)).rate(1) == 1
    with pytest.raises(BitstreamError, match="above these weights' highest, 1"):
        dataclasses.replace(old, level=85).rate(1)


@pytest.mark.parametrize("rate", [-0.1, 3.01, float("nan")])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        bitstream.nearest_level(rate, 3)


@pytest.mark.parametrize(
    "change",
    [{"width": 0}, {"height": 2**30 + 1}, {"fingerprint": b"123"}, {"level": 253}, {"options": 4}],
)
def test_fields_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=r"\w"):
        bitstream.serialise(dataclasses.replace(EXAMPLE, **change))


def test_every_flipped_bit_is_found():
    data = bitstream.serialise(EXAMPLE)
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            bitstream.parse(flipped)


def test_every_burst_of_16_bits_is_found():
    data = int.from_bytes(bitstream.serialise(EXAMPLE))
    length = (data.bit_length() + 7) // 8
    rng = np.random.default_rng(0)
    for burst, shift in zip(
        rng.integers(1, 2**16, 5000).tolist(),
        rng.integers(0, 8 * length - 16, 5000).tolist(),
        strict=True,
    ):
        with pytest.raises(BitstreamError):
            bitstream.parse((data ^ burst << shift).to_bytes(length))


def test_every_truncation_is_found():
    """Here all of them; in general the 16 bits miss one cut in 65536."""
    data = bitstream.serialise(EXAMPLE)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            bitstream.parse(data[:length])


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_parsed(data):
    with contextlib.suppress(BitstreamError):
        assert isinstance(bitstream.parse(data), Container)


def with_check(body):
    return body + crc16(body).to_bytes(2, "big")


@given(st.binary(max_size=30), st.binary(min_size=2, max_size=2))
@settings(max_examples=300)
def test_random_bytes_behind_a_right_check_are_refused_or_parsed(body, head):
    for start in (b"\xc7\x41", head):
        try:
            container = bitstream.parse(with_check(start + body))
        except BitstreamError:
            continue
        assert container.width * container.height <= bitstream.DEFAULT_MAX_PIXELS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .glc file"),
        (b"\xc7", "not a .glc file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "not a .glc file"),
        (b"\xc7\x43" + bytes(20), "version 3"),
        (b"\xc7\x4f", "version 15"),
        (b"\xc7\x41" + bytes(5), "cut short"),
        (b"\xc7\x41" + bytes(20), "check"),
        (with_check(b"\xc7\x41\x80" + bytes(20)), "feature"),
        (with_check(b"\xc7\x41\x40" + bytes(9)), "cut short"),
        (with_check(b"\xc7\x41\x4f" + b"\xff" * 7 + bytes(20)), "over the limit"),
        (with_check(b"\xc7\x41" + bytes(4) + b"\xfd" + bytes(10)), "rate"),
    ],
)
def test_what_is_wrong_is_said(data, message):
    with pytest.raises(BitstreamError, match=message):
        bitstream.parse(data)


def test_the_limit_on_pixels_is_inclusive():
    data = bitstream.serialise(EXAMPLE)
    assert bitstream.parse(data, max_pixels=768 * 512).width == 768
    with pytest.raises(BitstreamError, match=r"768x512.*--max-pixels"):
        bitstream.parse(data, max_pixels=768 * 512 - 1)


def test_symbols_check_reads_values_not_memory_layout():
    z_indices = np.arange(6).reshape(2, 3)
    y_hat = np.arange(-12, 12, dtype=np.int64).reshape(2, 3, 4)
    check = bitstream.symbols_check(z_indices, y_hat)
    assert 0 <= check <= 0xFFFF
    strided = np.asfortranarray(y_hat.astype(">i4"))
    assert bitstream.symbols_check(z_indices.astype(np.uint16), strided) == check
    y_hat[1, 2, 3] += 1
    assert bitstream.symbols_check(z_indices, y_hat) != check
