"""A second .glc decoder, written from docs/format.md in plain Python and NumPy int64.

It shares no code with glc_jax and is as slow as it is plain. Tests hold the library against it.
"""

import json
import zlib
from collections.abc import Mapping

import numpy as np

from tests import independent_programs
from tests.independent_families import Mixture, Tables, read, softmax, uniform
from tests.independent_version_1 import Networks, model
from tests.integer_coder import IntegerReader

Tensors = Mapping[str, np.ndarray]


def decode(data: bytes, tensors: Tensors, stride: int, tables: Tensors) -> dict[str, np.ndarray]:
    """Of each latent "symbols/NAME" and "values/NAME", of its shape.

    tensors: the weights file's, by name. tables: the arrays of gaussian_tables.npz.
    """
    assert data[0] == 0xC7
    assert data[1] in (0x41, 0x42)
    assert crc_16(data[:-2]) == int.from_bytes(data[-2:], "big")
    flags = data[2] >> 4
    assert flags < 8
    size_bytes, bits = (8, 30) if flags & 4 else (4, 14)
    size = int.from_bytes(data[2 : 2 + size_bytes], "big")
    width, height = size % 2**bits + 1, (size >> bits) % 2**bits + 1
    assert data[2 + size_bytes] <= 252
    reader = IntegerReader(data[2 + size_bytes + 3 : -4])
    sizes = {"b": 1, "h": -(-height // stride), "w": -(-width // stride)}

    weights = (OldWeights if "exact/unit_exponent" in tensors else Weights)(tensors)
    state, exponents, found, crc = {}, {}, {}, 0
    latents = {latent["name"]: latent for latent in weights.model["latents"]}
    for name, latent in latents.items():
        shape = [1, *(independent_programs.size_of(d, sizes) for d in latent["shape"])]
        state[name] = np.zeros(shape, np.int64)
        found[f"symbols/{name}"] = np.zeros(shape, np.int64)
    for number, group in enumerate(weights.model["groups"]):
        name = group["latent"]
        option = bool(flags >> list(latents).index(name) & 1)
        if group["program"] is not None:
            reads = [state[read] for read in group["reads"]]
            outputs, scales = weights.run(group["program"], reads, sizes)
            state.update(outputs)
            exponents.update(scales)
        places = list(elements(group["blocks"], state[name].shape))
        own = weights.tables(number)
        given = Parameters(state, exponents, state[name].ndim)
        symbols = read_group(reader, group["family"], own or tables, own, given, places, option)
        for place, symbol in zip(places, symbols, strict=True):
            centre = int(state[group["centre"]][place]) if group["centre"] else 0
            found[f"symbols/{name}"][place] = symbol
            state[name][place] = (symbol << latents[name]["exponent"]) + centre
    for name in latents:
        crc = zlib.crc32(state[name].astype("<i4").tobytes(), crc)
        found[f"values/{name}"] = state[name]
    assert crc % 2**16 == int.from_bytes(data[-4:-2], "big")
    return {name: value[0] for name, value in found.items()}


class Weights:
    """The entropy model of a weights file."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.model = json.loads(tensors["entropy/model"].tobytes())
        assert self.model["version"] == 1

    def run(self, number: int, reads: list[np.ndarray], sizes: Mapping[str, int]):
        """(outputs, exponents) of a program."""
        text = self.tensors[f"entropy/programs/{number}/program"].tobytes().decode()
        pool = self.tensors[f"entropy/programs/{number}/arrays"]
        arrays = [self.tensors[f"entropy/arrays/{k}"] for k in pool]
        outputs = independent_programs.run(text, arrays, reads, sizes)
        return outputs, independent_programs.exponents(text, arrays)

    def tables(self, group: int) -> Tensors:
        """The arrays that a group has, which may be none."""
        prefix = f"entropy/tables/{group}/"
        return {n.removeprefix(prefix): a for n, a in self.tensors.items() if n.startswith(prefix)}


class OldWeights:
    """The same of a weights file of version 1."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors, self.networks = tensors, Networks(tensors)
        codebook = self.networks["hyperprior/quantizer/codebook"]
        self.model = model(*codebook.shape, self.networks.exponent)

    def run(self, number: int, reads: list[np.ndarray], sizes: Mapping[str, int]):
        outputs = self.networks.run(number, *reads)
        return outputs, dict.fromkeys(outputs, self.networks.exponent)

    def tables(self, group: int) -> Tensors:
        prefix = "exact/tables/" if group else "z_prior/"
        return {n.removeprefix(prefix): a for n, a in self.tensors.items() if n.startswith(prefix)}


def crc_16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


class Parameters:
    """What the state says of an element: integers with their exponents."""

    def __init__(self, state: Tensors, exponents: Mapping, rank: int) -> None:
        self.state, self.exponents, self.rank = state, exponents, rank

    def __call__(self, name: str, place: tuple[int, ...], width: int = 1) -> list[tuple[int, int]]:
        """The `width` values of an element, those of a channel side by side."""
        values = self.state[name]
        scale = np.broadcast_to(self.exponents[name], values.shape[-1:])
        first = place[3] * width if self.rank == 4 else 0
        at = [min(p, n - 1) for p, n in zip(place[:3], values.shape, strict=False)]
        return [(int(values[(*at, first + i)]), int(scale[first + i])) for i in range(width)]


SCALES = ("gaussian", "laplace", "logistic", "student_t", "generalised_gaussian")


def read_group(reader, family, scale_tables, own, given, places, option) -> list[int]:
    """A group's symbols, in the order of `places`."""
    name, fields = family["name"], family["fields"]
    if name == "categorical":
        frequencies = own["frequencies"].tolist() if option else uniform(fields["size"])
        return [read(reader, frequencies) for _ in places]
    if name == "categorical_logits":
        logits = (given("logits", place, fields["size"]) for place in places)
        return [read(reader, softmax(one, 24)) for one in logits]
    if name == "gaussian_mixture":
        count, mixture = fields["components"], Mixture(own)
        names = ("weight", "mean", "scale")
        made = [mixture.table(*(given(n, place, count) for n in names)) for place in places]
        return mixture.read(reader, made, count)
    if name in SCALES:
        tables = Tables(scale_tables)
        used = ("scale", "shape") if tables.shape_thresholds else ("scale",)
        wanted = [tuple(given(n, place)[0] for n in used) for place in places]
        known = {one: tables.of_scale(*one) for one in set(wanted)}
        return tables.read(reader, [known[one] for one in wanted], option)
    assert name in ("deep_factorized", "fourier_basis")
    return Tables(own).read(reader, [place[-1] for place in places], option)


def elements(blocks: list[list[int]], shape: tuple[int, ...]):
    """The places (0, row, column, channel) of a group, in order; no channel where there is none."""
    for row in range(blocks[0][0], shape[1], blocks[0][1]):
        for column in range(blocks[0][2], shape[2], blocks[0][3]):
            at = (row - blocks[0][0]) // blocks[0][1], (column - blocks[0][2]) // blocks[0][3]
            for first_row, rows, first_column, columns, start, stop in blocks:
                place = 0, first_row + at[0] * rows, first_column + at[1] * columns
                if len(shape) == 3:
                    yield place
                    continue
                for channel in range(start, stop or shape[3]):
                    yield (*place, channel)
