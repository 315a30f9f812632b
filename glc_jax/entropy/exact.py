"""The entropy networks in exact integer arithmetic: the same probabilities on every machine.

Between z's indices and the probabilities of y lie h_s, the fusion, the reduction, the adaptors and
the spatial prior. A file can be read only where these give bit for bit what they gave the writer,
so they run on integers: weights and activations of 16 bits, each range with a power-of-two scale,
sums that are exact in any order (`integer`). `calibrate.quantise` makes the integers from trained
weights, once; they are part of the weights file.

The first half of this file describes the networks, once, over a machine that knows how to run a
layer: `IntegerMachine` here, and in `calibrate` two more, one that measures the ranges of the
float networks and one that chooses the scales. The second half, `EntropyNetworks`, is what the
codec calls.

The scheme follows Ballé, Johnston and Minnen 2019 (Integer networks for data compression with
latent-variable models) and He et al. 2022 (arXiv 2202.07513).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from glc_jax.entropy import tables
from glc_jax.entropy.integer import LIMIT, Arithmetic, Array, arithmetic_for, x64
from glc_jax.entropy.tables import RESIDUAL_LIMIT, ScaleTables
from glc_jax.errors import WeightsError
from glc_jax.models.layers import (
    LEAKY_SLOPE_DEPTHWISE,
    LEAKY_SLOPE_FFN,
    LEAKY_SLOPE_UPSAMPLE,
)
from glc_jax.models.spatial_prior import STEP_MEMBERS, STEPS

SLOPE_BITS = 16
"""Slopes of leaky ReLUs are integers in units of 2^-16."""

PRIOR_BLOCKS = 3


class Machine(Protocol):
    """Runs the layers of the entropy networks; layers are named by their path in the parameters.

    `span` names the calibrated range of an output; outputs of one span share their scale. Where it
    is not given, the span is the layer's own.
    """

    def has(self, name: str) -> bool: ...
    def embed(self, name: str, indices: Array) -> Array: ...
    def dense(
        self, name: str, x: Array, *, skip: Array | None = None, span: str | None = None
    ) -> Array: ...
    def dense_pair(self, name: str, x: Array) -> tuple[Array, Array]: ...
    def conv3x3(self, name: str, x: Array, *, span: str | None = None) -> Array: ...
    def depthwise(self, name: str, x: Array) -> Array: ...
    def leaky(self, x: Array, slope: float) -> Array: ...
    def multiply(self, name: str, a: Array, b: Array) -> Array: ...
    def add(self, a: Array, b: Array, *, span: str) -> Array: ...
    def rescale(self, name: str, y_hat: Array, *, span: str) -> Array: ...
    def concat(self, a: Array, b: Array) -> Array: ...
    def pixel_shuffle(self, x: Array) -> Array: ...


# The networks. They mirror models/hyperprior.py and models/spatial_prior.py layer by layer.


def prior_params(m: Machine, z_indices: Array) -> Array:
    """Indices [B, h, w] -> quant_step (not clamped), scales, means: [B, 4h, 4w, 3C]."""
    h = m.embed("hyperprior/quantizer", z_indices)
    h = _upsample(m, "hyperprior/h_s/up_0", h)
    h = _upsample(m, "hyperprior/h_s/up_1", h)
    h = _block(m, "hyperprior/h_s/block", h)
    h = _block(m, "hyperprior/fusion/block_0", h)
    return _block(m, "hyperprior/fusion/block_1", h, span="params")


def reduce(m: Machine, params: Array) -> Array:
    """The parameters [B, H, W, 3C] as context of the later steps: [B, H, W, C]."""
    return m.dense("context/reduction", params, span="context")


def step_params(m: Machine, step: int, y_hat: Array, reduced: Array) -> Array:
    """Scales and means [B, H, W, 2C] of step 1, 2 or 3, from what was decoded before it."""
    h = m.concat(m.rescale("context/y_hat", y_hat, span="context"), reduced)
    h = _block(m, f"context/adaptor_{step}", h, span="adapted")
    for i in range(PRIOR_BLOCKS):
        last = i == PRIOR_BLOCKS - 1
        h = _block(m, f"context/prior_{i}", h, span="params" if last else None)
    return h


def _upsample(m: Machine, name: str, x: Array) -> Array:
    """models.layers.ResidualUpsample."""
    h = m.pixel_shuffle(m.dense(f"{name}/subpixel", x))
    h = m.conv3x3(f"{name}/conv", m.leaky(h, LEAKY_SLOPE_DEPTHWISE), span=name)
    shortcut = m.pixel_shuffle(m.dense(f"{name}/shortcut", x, span=name))
    return m.add(m.leaky(h, LEAKY_SLOPE_UPSAMPLE), shortcut, span=name)


def _block(m: Machine, name: str, x: Array, span: str | None = None) -> Array:
    """models.layers.DepthConvBlock."""
    h = m.leaky(m.dense(f"{name}/depth_conv/conv_in", x), LEAKY_SLOPE_DEPTHWISE)
    h = m.depthwise(f"{name}/depth_conv/depthwise", h)
    if m.has(f"{name}/depth_conv/adaptor"):
        x = m.dense(f"{name}/depth_conv/adaptor", x)
    x = m.dense(f"{name}/depth_conv/conv_out", h, skip=x)
    a, b = m.dense_pair(f"{name}/ffn/conv_in", x)
    h = m.multiply(f"{name}/ffn/gate", a, m.leaky(b, LEAKY_SLOPE_FFN))
    return m.dense(f"{name}/ffn/conv_out", h, skip=x, span=span)


# How a machine of integers runs a layer.


class Layer(NamedTuple):
    """One layer's integers, prepared by an arithmetic; what a layer lacks is None.

    out = clamp(floor((x kernel + bias + skip 2^skip_shift) / 2^shift)), per output channel. The
    bias includes the half that makes the floor a rounding.
    """

    kernel: Any = None
    bias: Any = None
    shift: Any = None
    skip_shift: Any = None


class IntegerMachine:
    """Runs the layers on integers; see `Layer` for what each computes."""

    def __init__(self, layers: Mapping[str, Layer], arithmetic: Arithmetic) -> None:
        self.layers = layers
        self.arithmetic = arithmetic
        self.xp = arithmetic.xp

    def has(self, name: str) -> bool:
        return name in self.layers

    def _saturate(self, layer: Layer, total: Array) -> Array:
        shifted = self.arithmetic.shift_right(total + layer.bias, layer.shift)
        return self.xp.clip(shifted, -LIMIT, LIMIT)

    def embed(self, name: str, indices: Array) -> Array:
        return self.layers[name].kernel[indices]

    def dense(
        self, name: str, x: Array, *, skip: Array | None = None, span: str | None = None
    ) -> Array:
        layer = self.layers[name]
        total = self.arithmetic.matmul(x, layer.kernel)
        if skip is not None:
            total = total + self.arithmetic.shift_left(skip, layer.skip_shift)
        return self._saturate(layer, total)

    def dense_pair(self, name: str, x: Array) -> tuple[Array, Array]:
        a, b = self.xp.split(self.dense(name, x), 2, axis=-1)
        return a, b

    def conv3x3(self, name: str, x: Array, *, span: str | None = None) -> Array:
        columns = self.xp.concatenate(self._neighbours(x), axis=-1)
        return self.dense(name, columns)

    def depthwise(self, name: str, x: Array) -> Array:
        layer = self.layers[name]
        total = sum(n * k for n, k in zip(self._neighbours(x), layer.kernel, strict=True))
        return self._saturate(layer, total)

    def _neighbours(self, x: Array) -> list[Array]:
        """x shifted to each of the nine positions of a 3x3 window, row by row."""
        height, width = x.shape[1:3]
        x = self.xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]

    def leaky(self, x: Array, slope: float) -> Array:
        scaled = x * round(slope * 2**SLOPE_BITS) + 2 ** (SLOPE_BITS - 1)
        return self.xp.maximum(x, self.arithmetic.shift_right(scaled, self.layers["slope"].shift))

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        return self._saturate(self.layers[name], a * b)

    def add(self, a: Array, b: Array, *, span: str) -> Array:
        return self.xp.clip(a + b, -LIMIT, LIMIT)

    def rescale(self, name: str, y_hat: Array, *, span: str) -> Array:
        return self._saturate(self.layers[name], y_hat)

    def concat(self, a: Array, b: Array) -> Array:
        return self.xp.concatenate([a, b], axis=-1)

    def pixel_shuffle(self, x: Array) -> Array:
        b, h, w, c = x.shape
        x = self.xp.reshape(x, (b, h, w, c // 4, 2, 2))
        return self.xp.reshape(self.xp.transpose(x, (0, 1, 4, 2, 5, 3)), (b, 2 * h, 2 * w, c // 4))


# The four steps. Each codes a quarter of y, which is handled as one array [B, H/2, W/2, C].


def take_step(x: np.ndarray, step: int) -> np.ndarray:
    """The elements of x [B, H, W, C] that `step` codes, cell by cell: [B, H/2, W/2, C]."""
    members = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    parts = (np.split(members[m], STEPS, axis=-1)[g] for g, m in enumerate(STEP_MEMBERS[step]))
    return np.concatenate(list(parts), axis=-1)


def put_step(x: np.ndarray, step: int, part: np.ndarray) -> None:
    """Writes `part` [B, H/2, W/2, C] into x [B, H, W, C], where `take_step` finds it."""
    width = x.shape[-1] // STEPS
    for g, member in enumerate(STEP_MEMBERS[step]):
        channels = slice(g * width, (g + 1) * width)
        x[:, member // 2 :: 2, member % 2 :: 2, channels] = part[..., channels]


class StepContext(NamedTuple):
    """What is known of a step's elements before they are coded, each [B, H/2, W/2, C].

    table_index: uint8, the probability table of each. means, quant_step: float64, the prediction
    and the quantisation step; y is predicted as means * quant_step.
    """

    table_index: np.ndarray
    means: np.ndarray
    quant_step: np.ndarray


class CodedLatent(NamedTuple):
    """The outcome of the four steps of a batch.

    steps: (y_q int16, table_index uint8) of each step, [B, H/2, W/2, C].
    y_q: int16 [B, H, W, C], the residuals in their places.
    y_hat_fixed: int32 [B, H, W, C], residuals plus means in fixed point, before quant_step.
    y_hat: float32 [B, H, W, C], the latent that g_s reads, quant_step multiplied in.
    """

    steps: list[tuple[np.ndarray, np.ndarray]]
    y_q: np.ndarray
    y_hat_fixed: np.ndarray
    y_hat: np.ndarray


class EntropyNetworks:
    """The exact networks of one weights file, ready to write and read files.

    Compiles once per shape of z_indices. Raises WeightsError where the tree is not what
    `calibrate.quantise` makes.

    Args:
      tree: the "exact" part of a weights file.
      arithmetic: None picks the one that suits JAX's default device.
    """

    def __init__(self, tree: Mapping[str, Any], arithmetic: Arithmetic | None = None) -> None:
        arithmetic = arithmetic or arithmetic_for(jax.default_backend())
        try:
            self.exponent = int(tree["unit_exponent"])
            arrays = tree.get("tables")
            self.tables = ScaleTables.from_arrays(arrays) if arrays else tables.gaussian()
            with x64():
                self._layers = prepare_layers(tree, arithmetic)
        except (KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"The exact networks of the weights are incomplete: {error}."
            ) from error
        self._arithmetic = arithmetic
        self._table_of_scale = self.tables.index(np.arange(LIMIT + 1), self.exponent)

    def encode(self, z_indices: np.ndarray, y: np.ndarray) -> CodedLatent:
        """Quantise y, given the indices of z that go into the file.

        Args:
          z_indices: integers [B, H/4, W/4].
          y: float [B, H, W, C], what g_a gives.
        """

        def residuals(step: int, known: StepContext) -> np.ndarray:
            y_q = np.rint(take_step(y, step) / known.quant_step - known.means)
            return np.clip(y_q, -RESIDUAL_LIMIT, RESIDUAL_LIMIT - 1)

        return self._run(z_indices, residuals)

    def decode(
        self, z_indices: np.ndarray, read: Callable[[int, np.ndarray], np.ndarray]
    ) -> CodedLatent:
        """Rebuild y from z's indices [B, H/4, W/4] and the residuals in a file.

        `read(step, table_index)` gives the residuals of one step, for the table of each: both
        [B, H/2, W/2, C].
        """
        return self._run(z_indices, lambda step, known: read(step, known.table_index))

    def preview(self, z_indices: np.ndarray) -> CodedLatent:
        """What z alone says of y: every residual is 0."""
        return self._run(z_indices, lambda step, known: np.zeros(known.means.shape))

    def _run(
        self, z_indices: np.ndarray, residuals: Callable[[int, StepContext], np.ndarray]
    ) -> CodedLatent:
        unit = 1 << self.exponent
        quant_step, table_index, means, reduced = self._call(
            _first_step, self._layers, np.asarray(z_indices, np.int32)
        )
        quant_step = np.maximum(np.asarray(quant_step), unit // 2) / unit
        y_hat = np.zeros(quant_step.shape, np.int32)
        y_q = np.zeros(quant_step.shape, np.int16)
        steps = []
        for step in range(STEPS):
            if step:
                table_index, means = self._call(
                    _later_step, self._step_layers(step), y_hat, reduced
                )
            table, mean = (take_step(np.asarray(a), step) for a in (table_index, means))
            known = StepContext(table, mean / unit, take_step(quant_step, step))
            residual = np.asarray(residuals(step, known), np.int16)
            put_step(y_q, step, residual)
            put_step(y_hat, step, residual * np.int32(unit) + mean.astype(np.int32))
            steps.append((residual, table))
        return CodedLatent(steps, y_q, y_hat, (y_hat / unit * quant_step).astype(np.float32))

    def _call(
        self, program: Callable[..., tuple[Array, ...]], layers: Mapping[str, Layer], *inputs: Array
    ) -> tuple[Array, ...]:
        if self._arithmetic.xp is not np:
            program = _compiled(program)
        with x64():
            return program(self._arithmetic, layers, self._table_of_scale, *inputs)

    def _step_layers(self, step: int) -> dict[str, Layer]:
        """The context model with its adaptor named as that of step 1: all steps compile as one."""
        adaptor = f"context/adaptor_{step}/"
        return {
            name.replace(adaptor, "context/adaptor_1/"): layer
            for name, layer in self._layers.items()
            if name.startswith((adaptor, "context/prior_", "context/y_hat", "slope"))
        }


@functools.cache
def _compiled(program: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    return jax.jit(program, static_argnums=0)


def _first_step(
    arithmetic: Arithmetic, layers: Mapping[str, Layer], table_of_scale: Array, z_indices: Array
) -> tuple[Array, Array, Array, Array]:
    """quant_step (not clamped), table indices and means of step 0, and the reduced parameters."""
    m = IntegerMachine(layers, arithmetic)
    params = prior_params(m, z_indices)
    quant_step, scales, means = m.xp.split(params, 3, axis=-1)
    return quant_step, _look_up(m, table_of_scale, scales), means, reduce(m, params)


def _later_step(
    arithmetic: Arithmetic,
    layers: Mapping[str, Layer],
    table_of_scale: Array,
    y_hat: Array,
    reduced: Array,
) -> tuple[Array, Array]:
    """Table indices and means of the step whose adaptor `layers` holds."""
    m = IntegerMachine(layers, arithmetic)
    params = step_params(m, 1, y_hat.astype(reduced.dtype), reduced)
    scales, means = m.xp.split(params, 2, axis=-1)
    return _look_up(m, table_of_scale, scales), means


def _look_up(m: IntegerMachine, table_of_scale: Array, scales: Array) -> Array:
    return m.xp.asarray(table_of_scale)[m.xp.clip(scales, 0, LIMIT).astype(np.int32)]


def prepare_layers(tree: Mapping[str, Any], arithmetic: Arithmetic) -> dict[str, Layer]:
    """The integers of `tree["layers"]` as `arithmetic` wants them."""
    layers = {"slope": Layer(shift=arithmetic.right_shift(np.int8(SLOPE_BITS)))}
    for name, arrays in _layers_of(tree["layers"]):
        kernel = arrays.get("kernel")
        if "codebook" in arrays:
            layers[name] = Layer(kernel=arithmetic.integers(arrays["codebook"]))
            continue
        if kernel is not None and kernel.shape[:2] == (3, 3):
            kernel = kernel.reshape(9, *kernel.shape[2:])
            if kernel.ndim == 2:
                kernel = arithmetic.integers(kernel)
            else:
                kernel = arithmetic.kernel(kernel.reshape(-1, kernel.shape[-1]))
        elif kernel is not None:
            kernel = arithmetic.kernel(kernel)
        skip_shift = arrays.get("skip_shift")
        layers[name] = Layer(
            kernel=kernel,
            bias=arithmetic.integers(arrays["bias"]),
            shift=arithmetic.right_shift(arrays["shift"]),
            skip_shift=None if skip_shift is None else arithmetic.left_shift(skip_shift),
        )
    return layers


def _layers_of(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """(path, arrays) of every node of the tree that holds arrays."""
    if not any(isinstance(value, Mapping) for value in tree.values()):
        return [(prefix.rstrip("/"), tree)]
    return [found for key, value in tree.items() for found in _layers_of(value, f"{prefix}{key}/")]
