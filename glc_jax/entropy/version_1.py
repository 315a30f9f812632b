"""Weights files of version 1: their hand-made integer networks, read as programs.

Before programs, a weights file held the integers of each layer of GLC's own entropy networks
("exact/layers/hyperprior/h_s/up_0/conv/kernel"), and this library the order of the layers. Kept
files still open: `upgrade` writes those layers as the programs that they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from glc_jax.entropy.integer import LIMIT
from glc_jax.entropy.program import INDEX_LIMIT, Builder
from glc_jax.errors import WeightsError

_LEAKY_DEPTHWISE, _LEAKY = 655, 6554  # slopes of 0.01 and 0.1, in units of 2^-16
_STATE_LIMIT = (1 << 31) - 1
_STEPS, _PRIOR_BLOCKS = 4, 3
_MEMBERS = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))


def upgrade(exact: Mapping[str, Any], z_prior: Mapping[str, Any] | None) -> dict[str, Any]:
    """The tree that `ExactModel` reads, of the parts "exact" and "z_prior" of old weights.

    Raises WeightsError where they are incomplete.
    """
    try:
        layers = _Layers(exact["layers"])
        exponent = int(exact["unit_exponent"])
        codebook = np.asarray(layers["hyperprior/quantizer"]["codebook"])
        channels = codebook.shape[1]
        programs = [_first(layers, exponent, channels)]
        programs += [_later(layers, exponent, channels, step) for step in range(1, _STEPS)]
        tables: dict[str, Any] = {}
        if z_prior:
            tables["0"] = {"frequencies": np.asarray(z_prior["frequencies"])}
        if exact.get("tables"):
            tables |= {str(1 + step): dict(exact["tables"]) for step in range(_STEPS)}
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise WeightsError(f"The exact networks of the weights are incomplete: {error}.") from error
    content = {
        "version": 1,
        "latents": [
            {"name": "z", "shape": ["h", "w"], "indices": True, "exponent": 0, "unit": None},
            {
                "name": "y",
                "shape": ["4*h", "4*w", channels],
                "indices": False,
                "exponent": exponent,
                "unit": "quant_step",
            },
        ],
        "groups": [_z_group(len(codebook)), *(_y_group(step, channels) for step in range(_STEPS))],
    }
    stored, pool = {}, {}
    for number, program in enumerate(programs):
        start = len(pool)
        pool |= {str(start + i): array for i, array in enumerate(program.arrays)}
        text = np.frombuffer(program.structure.text.encode(), np.uint8)
        stored[str(number)] = {"program": text, "arrays": np.arange(start, len(pool))}
    return {
        "model": np.frombuffer(json.dumps(content).encode(), np.uint8),
        "programs": stored,
        "arrays": pool,
        "tables": tables,
    }


def _z_group(size: int) -> dict[str, Any]:
    return {
        "name": "z",
        "latent": "z",
        "blocks": [[0, 1, 0, 1, 0, 0]],
        "family": {"name": "categorical", "fields": {"size": size}},
        "centre": None,
        "program": None,
        "reads": [],
    }


def _y_group(step: int, channels: int) -> dict[str, Any]:
    width = channels // _STEPS
    return {
        "name": f"y/{step}",
        "latent": "y",
        "blocks": [
            [member // 2, 2, member % 2, 2, g * width, (g + 1) * width]
            for g, member in enumerate(_MEMBERS[step])
        ],
        "family": {"name": "gaussian", "fields": {}},
        "centre": "mean",
        "program": step,
        "reads": ["y", "reduced"] if step else ["z"],
    }


class _Layers:
    """The arrays of each layer, by its path."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.tree = tree

    def __getitem__(self, path: str) -> Mapping[str, Any]:
        node = self.tree
        for part in path.split("/"):
            node = node[part]
        return node

    def __contains__(self, path: str) -> bool:
        try:
            return bool(self[path])
        except KeyError:
            return False


class _Writer:
    """Writes the old layers with a program's operations."""

    def __init__(self, layers: _Layers) -> None:
        self.layers, self.builder = layers, Builder()

    def end(self, path: str, total: int, skip: int | None = None) -> int:
        layer = self.layers[path]
        if skip is not None:
            arrays = {"shift_1": layer["skip_shift"]}
            total = self.builder.add("sum", [total, skip], arrays, signs=[1, 1])
        arrays = {"shift": layer["shift"], "bias": layer["bias"]}
        return self.builder.add("round", [total], arrays, limit=LIMIT)

    def dense(self, path: str, x: int, skip: int | None = None) -> int:
        kernel = self.layers[path]["kernel"]
        return self.end(path, self.builder.add("dense", [x], {"kernel": kernel}), skip)

    def conv3x3(self, path: str, x: int) -> int:
        """Also depthwise, where the kernel has no axis of inputs."""
        kernel = np.asarray(self.layers[path]["kernel"])
        depthwise = kernel.ndim == 3
        value = self.builder.add(
            "conv",
            [x],
            {"kernel": kernel[:, :, None] if depthwise else kernel},
            window=[3, 3],
            strides=[1, 1],
            dilations=[1, 1],
            padding=[[1, 1], [1, 1]],
            groups=kernel.shape[-1] if depthwise else 1,
        )
        return self.end(path, value)

    def leaky(self, x: int, slope: int) -> int:
        return self.builder.add("leaky", [x], slope=slope)

    def channels(self, x: int, shape: tuple[str, ...], start: int, stop: int) -> int:
        return self.builder.add(
            "slice", [x], starts=[0, 0, 0, start], stops=[*shape, stop], strides=[1, 1, 1, 1]
        )

    def shuffle(self, x: int, scale: int, channels: int) -> int:
        height, width = f"{scale}*h", f"{scale}*w"
        x = self.builder.add("reshape", [x], shape=["b", height, width, channels, 2, 2])
        x = self.builder.add("transpose", [x], axes=[0, 1, 4, 2, 5, 3])
        shape = ["b", f"{2 * scale}*h", f"{2 * scale}*w", channels]
        return self.builder.add("reshape", [x], shape=shape)

    def upsample(self, path: str, x: int, scale: int, channels: int) -> int:
        h = self.shuffle(self.dense(f"{path}/subpixel", x), scale, channels)
        h = self.leaky(self.conv3x3(f"{path}/conv", self.leaky(h, _LEAKY_DEPTHWISE)), _LEAKY)
        shortcut = self.shuffle(self.dense(f"{path}/shortcut", x), scale, channels)
        total = self.builder.add("sum", [h, shortcut], signs=[1, 1])
        nothing = {"shift": np.zeros((), np.int64), "bias": np.zeros((), np.int64)}
        return self.builder.add("round", [total], nothing, limit=LIMIT)

    def block(self, path: str, x: int, shape: tuple[str, ...]) -> int:
        h = self.leaky(self.dense(f"{path}/depth_conv/conv_in", x), _LEAKY_DEPTHWISE)
        h = self.conv3x3(f"{path}/depth_conv/depthwise", h)
        if f"{path}/depth_conv/adaptor" in self.layers:
            x = self.dense(f"{path}/depth_conv/adaptor", x)
        x = self.dense(f"{path}/depth_conv/conv_out", h, skip=x)
        hidden = self.dense(f"{path}/ffn/conv_in", x)
        half = np.shape(self.layers[f"{path}/ffn/conv_in"]["kernel"])[-1] // 2
        a = self.channels(hidden, shape, 0, half)
        b = self.leaky(self.channels(hidden, shape, half, 2 * half), _LEAKY)
        gated = self.end(f"{path}/ffn/gate", self.builder.add("multiply", [a, b]))
        return self.dense(f"{path}/ffn/conv_out", gated, skip=x)


_GRID = ("b", "4*h", "4*w")


def _first(layers: _Layers, exponent: int, channels: int) -> Any:
    """z -> quant_step, scale and mean of step 0, and the reduced parameters."""
    writer = _Writer(layers)
    builder = writer.builder
    z = builder.input(("b", "h", "w"), INDEX_LIMIT)
    h = builder.add("rows", [z], {"table": layers["hyperprior/quantizer"]["codebook"]})
    h = writer.upsample("hyperprior/h_s/up_0", h, 1, channels)
    h = writer.upsample("hyperprior/h_s/up_1", h, 2, channels)
    for path in ("hyperprior/h_s/block", "hyperprior/fusion/block_0", "hyperprior/fusion/block_1"):
        h = writer.block(path, h, _GRID)
    names = ("quant_step", "scale", "mean")
    parts = [writer.channels(h, _GRID, i * channels, (i + 1) * channels) for i in range(len(names))]
    half = builder.add("constant", [], {"values": np.asarray((1 << exponent) // 2)})
    parts[0] = builder.add("extreme", [parts[0], half], kind="max")
    for name, part in zip(names, parts, strict=True):
        builder.output(name, part, exponent)
    builder.output("reduced", writer.dense("context/reduction", h), 0)
    return builder.program()


def _later(layers: _Layers, exponent: int, channels: int, step: int) -> Any:
    """y so far and the reduced parameters -> scale and mean of a later step."""
    writer = _Writer(layers)
    builder = writer.builder
    y = builder.input((*_GRID, channels), _STATE_LIMIT, exponent)
    reduced = builder.input((*_GRID, channels), LIMIT, 0)
    known = writer.end("context/y_hat", y)
    h = builder.add("concatenate", [known, reduced], axis=3)
    h = writer.block(f"context/adaptor_{step}", h, _GRID)
    for i in range(_PRIOR_BLOCKS):
        h = writer.block(f"context/prior_{i}", h, _GRID)
    builder.output("scale", writer.channels(h, _GRID, 0, channels), exponent)
    builder.output("mean", writer.channels(h, _GRID, channels, 2 * channels), exponent)
    return builder.program()
