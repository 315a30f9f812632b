"""A second .glc decoder, written from docs/format.md in plain Python and NumPy int64.

It shares no code with glc_jax and is as slow as it is plain. Tests hold the library against it.
"""

import zlib
from collections.abc import Mapping

import numpy as np

from tests.integer_coder import IntegerReader

MEMBERS = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]]
CLAMP = 32639

Tensors = Mapping[str, np.ndarray]


def decode(data: bytes, tensors: Tensors, stride: int, tables: Tensors) -> dict[str, np.ndarray]:
    """z_indices [H, W], y_q and y_hat [4H, 4W, C] of a file.

    tensors: the weights file's, by name. tables: the arrays of gaussian_tables.npz.
    """
    assert data[0] == 0xC7
    assert data[1] == 0x41
    assert crc_16(data[:-2]) == int.from_bytes(data[-2:], "big")
    flags = data[2] >> 4
    assert flags < 8
    size_bytes, bits = (8, 30) if flags & 4 else (4, 14)
    size = int.from_bytes(data[2 : 2 + size_bytes], "big")
    width, height = size % 2**bits + 1, (size >> bits) % 2**bits + 1
    assert data[2 + size_bytes] <= 252
    reader = IntegerReader(data[2 + size_bytes + 3 : -4])

    networks = Networks(tensors)
    codebook = networks["hyperprior/quantizer/codebook"]
    z_shape = (-(-height // stride), -(-width // stride))
    prior = tensors["z_prior/frequencies"].tolist() if flags & 1 else uniform(len(codebook))
    z_indices = np.array([reader.read(prior) for _ in range(np.prod(z_shape))]).reshape(z_shape)

    params = networks.params(codebook[z_indices])
    _, scales, means = np.split(params, 3, axis=-1)
    reduced = networks.dense("context/reduction", params)
    y_q, y_hat = np.zeros_like(means), np.zeros_like(means)
    exponent = int(tensors["exact/unit_exponent"])
    symbols = SymbolReader(reader, tables, skip_zeros=bool(flags & 2))
    for step in range(4):
        if step:
            context = networks.end("context/y_hat", y_hat)
            h = networks.block(
                f"context/adaptor_{step}", np.concatenate([context, reduced], axis=-1)
            )
            for i in range(3):
                h = networks.block(f"context/prior_{i}", h)
            scales, means = np.split(h, 2, axis=-1)
        places = list(elements(step, *means.shape))
        residuals = symbols.read([int(scales[p]) for p in places], exponent)
        for place, residual in zip(places, residuals, strict=True):
            y_q[place] = residual
            y_hat[place] = (residual << exponent) + means[place]

    crc = zlib.crc32(z_indices.astype("<u4").tobytes())
    crc = zlib.crc32(y_hat.astype("<i4").tobytes(), crc)
    assert crc % 2**16 == int.from_bytes(data[-4:-2], "big")
    return {"z_indices": z_indices, "y_q": y_q, "y_hat": y_hat}


def crc_16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def uniform(n: int) -> list[int]:
    """Frequencies of n equally likely symbols."""
    return [(s + 1) * 2**24 // n - s * 2**24 // n for s in range(n)]


def elements(step: int, height: int, width: int, channels: int):
    """The places (row, column, channel) that a step codes, in order."""
    for row in range(height // 2):
        for column in range(width // 2):
            for channel in range(channels):
                member = MEMBERS[step][channel // (channels // 4)]
                yield 2 * row + (member >> 1), 2 * column + (member & 1), channel


class SymbolReader:
    """Reads the residuals of a step."""

    MAGNITUDES = [2 ** (23 - m) for m in range(15)] + [2**9]

    def __init__(self, reader: IntegerReader, tables: Tensors, skip_zeros: bool) -> None:
        self.reader, self.skip_zeros = reader, skip_zeros
        self.thresholds = tables["thresholds"].tolist()
        self.radius = tables["radius"].tolist()
        self.tables, rest = [], tables["frequencies"].tolist()
        for radius in self.radius:
            half, escape, rest = rest[: radius + 1], rest[radius + 1], rest[radius + 2 :]
            self.tables.append([*half[:0:-1], *half, escape])

    def read(self, scales: list[int], exponent: int) -> list[int]:
        """The residuals of elements with these scales, in order."""
        table_of = [
            sum(t << exponent <= max(scale, 0) << 16 for t in self.thresholds) for scale in scales
        ]
        residuals = [0] * len(scales)
        for table in range(len(self.tables)):
            if table == 0 and self.skip_zeros:
                continue
            escaped = []
            radius = self.radius[table]
            for place in (p for p, t in enumerate(table_of) if t == table):
                symbol = self.reader.read(self.tables[table])
                residuals[place] = symbol - radius
                if symbol == 2 * radius + 1:
                    escaped.append(place)
            magnitudes = [self.reader.read(self.MAGNITUDES) for _ in escaped]
            for m in sorted(set(magnitudes)):
                for place in (p for p, n in zip(escaped, magnitudes, strict=True) if n == m):
                    symbol = self.reader.read(uniform(2 ** (m + 1)))
                    size = radius + 2**m + symbol % 2**m
                    residuals[place] = -size if symbol >> m else size
        return residuals


class Networks:
    """The exact networks, one picture [h, w, c] at a time."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[f"exact/layers/{name}"].astype(np.int64)

    def params(self, z_hat: np.ndarray) -> np.ndarray:
        """quant_step, scales, means from rows of the codebook."""
        h = self.upsample("hyperprior/h_s/up_1", self.upsample("hyperprior/h_s/up_0", z_hat))
        h = self.block("hyperprior/h_s/block", h)
        return self.block("hyperprior/fusion/block_1", self.block("hyperprior/fusion/block_0", h))

    def block(self, path: str, x: np.ndarray) -> np.ndarray:
        h = leaky(self.dense(f"{path}/depth_conv/conv_in", x), 655)
        h = self.depthwise(f"{path}/depth_conv/depthwise", h)
        if f"exact/layers/{path}/depth_conv/adaptor/kernel" in self.tensors:
            x = self.dense(f"{path}/depth_conv/adaptor", x)
        x = self.dense(f"{path}/depth_conv/conv_out", h, skip=x)
        a, b = np.split(self.dense(f"{path}/ffn/conv_in", x), 2, axis=-1)
        h = self.end(f"{path}/ffn/gate", a * leaky(b, 6554))
        return self.dense(f"{path}/ffn/conv_out", h, skip=x)

    def upsample(self, path: str, x: np.ndarray) -> np.ndarray:
        h = leaky(shuffle(self.dense(f"{path}/subpixel", x)), 655)
        h = leaky(self.conv3x3(f"{path}/conv", h), 6554)
        return np.clip(h + shuffle(self.dense(f"{path}/shortcut", x)), -CLAMP, CLAMP)

    def end(self, path: str, total: np.ndarray, skip: np.ndarray | None = None) -> np.ndarray:
        total = total + self[f"{path}/bias"]
        if skip is not None:
            total = total + (skip << self[f"{path}/skip_shift"])
        return np.clip(total >> self[f"{path}/shift"], -CLAMP, CLAMP)

    def dense(self, path: str, x: np.ndarray, skip: np.ndarray | None = None) -> np.ndarray:
        return self.end(path, np.einsum("hwi,io->hwo", x, self[f"{path}/kernel"]), skip)

    def conv3x3(self, path: str, x: np.ndarray) -> np.ndarray:
        kernel, total = self[f"{path}/kernel"], 0
        for row, column, window in windows(x):
            total = total + np.einsum("hwi,io->hwo", window, kernel[row, column])
        return self.end(path, total)

    def depthwise(self, path: str, x: np.ndarray) -> np.ndarray:
        kernel = self[f"{path}/kernel"]
        return self.end(path, sum(window * kernel[r, c] for r, c, window in windows(x)))


def windows(x: np.ndarray):
    """(row, column, x as that member of every 3x3 window sees it)."""
    height, width, channels = x.shape
    padded = np.zeros((height + 2, width + 2, channels), np.int64)
    padded[1:-1, 1:-1] = x
    for row in range(3):
        for column in range(3):
            yield row, column, padded[row : row + height, column : column + width]


def leaky(x: np.ndarray, slope: int) -> np.ndarray:
    return np.maximum(x, (x * slope + 2**15) >> 16)


def shuffle(x: np.ndarray) -> np.ndarray:
    height, width, channels = x.shape
    out = np.zeros((2 * height, 2 * width, channels // 4), np.int64)
    for dy in range(2):
        for dx in range(2):
            out[dy::2, dx::2] = x[..., 2 * dy + dx :: 4]
    return out
