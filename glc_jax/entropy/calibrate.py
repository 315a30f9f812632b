"""From trained weights to the integers of `exact`: measured ranges, chosen scales.

Done once, when a weights file is made. The float networks run on calibration data and note the
largest magnitude of every span. Each span gets the power-of-two scale that leaves one bit above
that, each output channel of a layer the one that uses all 16 bits of its weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from glc_jax.entropy import exact
from glc_jax.entropy.integer import ACCUMULATOR_BITS, LIMIT, Array
from glc_jax.errors import WeightsError
from glc_jax.models import layers
from glc_jax.models.spatial_prior import STEPS, split_prior_params, step_mask

HEADROOM = 2.0
"""The integers reach this many times the largest magnitude seen in calibration."""

MAX_EXPONENT = 15  # of activations: 1 is always within reach
MAX_SHIFT = 40
MAX_BIAS = 2.0**46


def quantise(
    params: Mapping[str, Any], calibration: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """The integer networks of trained weights: the "exact" part of a weights file.

    Args:
      params: the model's parameters; "hyperprior" and "context" are read.
      calibration: batches of (z_indices [B, H/4, W/4], y [B, H, W, C]), y as g_a gives it, from
        pictures like those that will be coded and at all rates: a few hundred crops.

    Returns:
      {"layers": {path: {"kernel", "bias", "shift", "skip_shift"}}, "unit_exponent": int8}, arrays
      of integers; `exact.Layer` says what they mean.

    Raises:
      WeightsError: there is no data, or a range is not finite or beyond 16 bits.
    """
    planner = _Planner(params, measure_ranges(params, calibration))
    unit_exponent = exact.prior_params(planner, None)
    reduced = exact.reduce(planner, unit_exponent)
    for step in range(1, STEPS):
        exact.step_params(planner, step, unit_exponent, reduced)
    tree: dict[str, Any] = {}
    for name, arrays in planner.layers.items():
        node = tree
        for part in name.split("/"):
            node = node.setdefault(part, {})
        node.update(arrays)
    return {"layers": tree, "unit_exponent": np.array(unit_exponent, np.int8)}


def measure_ranges(
    params: Mapping[str, Any], calibration: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """The largest magnitude of every span of the float networks over the calibration data."""
    params = {
        part: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params[part])
        for part in ("hyperprior", "context")
    }
    ranges: dict[str, float] = {}
    for z_indices, y in calibration:
        for span, value in _ranges_of_batch(params, z_indices, y).items():
            ranges[span] = max(ranges.get(span, 0.0), float(value))
    if not ranges:
        raise WeightsError("Calibrating the entropy networks needs at least one picture.")
    return ranges


@jax.jit
def _ranges_of_batch(params: Mapping[str, Any], z_indices: Array, y: Array) -> dict[str, Array]:
    m = _FloatMachine(params)
    prior_params = exact.prior_params(m, z_indices)
    quant_step, _, means = split_prior_params(prior_params)
    reduced = exact.reduce(m, prior_params)
    y = y / quant_step
    y_hat = jnp.zeros_like(y)
    for step in range(STEPS):
        if step:
            _, means = jnp.split(exact.step_params(m, step, y_hat, reduced), 2, axis=-1)
        y_hat += step_mask(step, *y.shape[1:]) * (jnp.round(y - means) + means)
    return m.ranges


class _Parameters:
    """The float parameters of a layer, by its path."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def __call__(self, name: str) -> Mapping[str, Any]:
        node = self.params
        for part in name.split("/"):
            node = node[part]
        return node

    def has(self, name: str) -> bool:
        """Whether there is such a layer."""
        try:
            self(name)
        except KeyError:
            return False
        return True


class _FloatMachine:
    """Runs the trained layers in float32 and notes the largest magnitude of each span."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.parameters = _Parameters(params)
        self.has = self.parameters.has
        self.ranges: dict[str, Array] = {}

    def _note(self, span: str, x: Array) -> Array:
        largest = jnp.abs(x).max()
        self.ranges[span] = jnp.maximum(self.ranges.get(span, 0.0), largest)
        return x

    def embed(self, name: str, indices: Array) -> Array:
        return self._note(name, self.parameters(name)["codebook"][indices])

    def dense(
        self, name: str, x: Array, *, skip: Array | None = None, span: str | None = None
    ) -> Array:
        layer = self.parameters(name)
        out = x @ layer["kernel"] + layer["bias"]
        return self._note(span or name, out if skip is None else out + skip)

    def dense_pair(self, name: str, x: Array) -> tuple[Array, Array]:
        layer = self.parameters(name)
        a, b = jnp.split(x @ layer["kernel"] + layer["bias"], 2, axis=-1)
        return self._note(f"{name}:0", a), self._note(f"{name}:1", b)

    def conv3x3(self, name: str, x: Array, *, span: str | None = None) -> Array:
        conv = layers.conv3x3(self.parameters(name)["bias"].shape[0], None, None)
        return self._note(span or name, conv.apply({"params": self.parameters(name)}, x))

    def depthwise(self, name: str, x: Array) -> Array:
        layer = self.parameters(name)
        out = layers.depthwise_conv3x3(x, layer["kernel"]) + layer["bias"]
        return self._note(name, out)

    def leaky(self, x: Array, slope: float) -> Array:
        return nn.leaky_relu(x, slope)

    def multiply(self, name: str, a: Array, b: Array) -> Array:
        return self._note(name, a * b)

    def add(self, a: Array, b: Array, *, span: str) -> Array:
        return self._note(span, a + b)

    def rescale(self, name: str, y_hat: Array, *, span: str) -> Array:
        return self._note(span, y_hat)

    def concat(self, a: Array, b: Array) -> Array:
        return jnp.concatenate([a, b], axis=-1)

    def pixel_shuffle(self, x: Array) -> Array:
        return layers.pixel_shuffle(x)


class _Planner:
    """Runs no numbers: each activation is its exponent e (an integer stands for value 2^e).

    `layers` collects the integers of every layer that was asked for.
    """

    def __init__(self, params: Mapping[str, Any], ranges: Mapping[str, float]) -> None:
        self.parameters = _Parameters(params)
        self.has = self.parameters.has
        self.layers: dict[str, dict[str, np.ndarray]] = {}
        self.exponents = {span: _exponent(span, largest) for span, largest in ranges.items()}
        # y_hat is only ever made coarser on its way into the context model.
        self.exponents["context"] = min(self.exponents["context"], self.exponents["params"])

    def embed(self, name: str, indices: None) -> int:
        exponent = self.exponents[name]
        codebook = _as_float64(self.parameters(name)["codebook"])
        self.layers[name] = {"codebook": _integers(np.ldexp(codebook, exponent))}
        return exponent

    def dense(self, name: str, x: int, *, skip: int | None = None, span: str | None = None) -> int:
        out = self.exponents[span or name]
        self._layer(name, x, out, skip)
        return out

    def dense_pair(self, name: str, x: int) -> tuple[int, int]:
        a, b = (self.exponents[f"{name}:{i}"] for i in (0, 1))
        half = self.parameters(name)["bias"].shape[0] // 2
        self._layer(name, x, np.repeat([a, b], half))
        return a, b

    def conv3x3(self, name: str, x: int, *, span: str | None = None) -> int:
        return self.dense(name, x, span=span)

    def depthwise(self, name: str, x: int) -> int:
        return self.dense(name, x)

    def leaky(self, x: int, slope: float) -> int:
        return x

    def multiply(self, name: str, a: int, b: int) -> int:
        return self._shift_only(name, a + b, self.exponents[name])

    def add(self, a: int, b: int, *, span: str) -> int:
        return _same(a, b, self.exponents[span])

    def rescale(self, name: str, y_hat: int, *, span: str) -> int:
        return self._shift_only(name, y_hat, self.exponents[span])

    def concat(self, a: int, b: int) -> int:
        return _same(a, b)

    def pixel_shuffle(self, x: int) -> int:
        return x

    def _layer(self, name: str, x: int, out: int | np.ndarray, skip: int | None = None) -> None:
        """Integers of a layer with input exponent x, output exponents `out` [N] or scalar."""
        layer = self.parameters(name)
        kernel, bias = _as_float64(layer["kernel"]), _as_float64(layer["bias"])
        _check(name, np.isfinite(kernel).all() and np.isfinite(bias).all())
        out = np.broadcast_to(out, bias.shape)
        contracted = tuple(range(kernel.ndim - 1))
        with np.errstate(divide="ignore"):
            weight_exponent = np.floor(np.log2(LIMIT / np.abs(kernel).max(contracted)))
            fits_bias = np.floor(np.log2(MAX_BIAS / np.abs(bias))) - x
        weight_exponent = np.minimum(weight_exponent, out + MAX_SHIFT - x)
        weight_exponent = np.minimum(weight_exponent, fits_bias)
        if skip is not None:
            weight_exponent = np.minimum(weight_exponent, skip + MAX_SHIFT - 8 - x)
        total = (weight_exponent + x).astype(np.int64)
        integers = {
            "kernel": _integers(np.ldexp(kernel, total - x)),
            "bias": _rounding(total - out) + np.rint(np.ldexp(bias, total)).astype(np.int64),
            "shift": (total - out).astype(np.int8),
        }
        reach = np.abs(integers["kernel"].astype(np.int64)).sum(contracted) * LIMIT
        reach += np.abs(integers["bias"])
        if skip is not None:
            integers["skip_shift"] = (total - skip).astype(np.int8)
            reach += LIMIT * 2 ** np.maximum(total - skip, 0)
            _check(name, (total >= skip).all())
        _check(name, (total >= out).all() and (reach < 2**ACCUMULATOR_BITS).all())
        self._keep(name, integers)

    def _shift_only(self, name: str, exponent: int, out: int) -> int:
        shift = np.array(exponent - out)
        _check(name, shift >= 0)
        self._keep(name, {"bias": _rounding(shift), "shift": shift.astype(np.int8)})
        return out

    def _keep(self, name: str, integers: dict[str, np.ndarray]) -> None:
        """A layer that several steps share must get the same integers from each."""
        for key, values in self.layers.setdefault(name, integers).items():
            if not np.array_equal(values, integers[key]):
                raise AssertionError(f"{name} is used on activations of different spans")


def _exponent(span: str, largest: float) -> int:
    """The largest exponent at which HEADROOM * largest stays within LIMIT."""
    _check(span, np.isfinite(largest))
    if largest == 0:
        return MAX_EXPONENT
    return min(MAX_EXPONENT, int(np.floor(np.log2(LIMIT / (HEADROOM * largest)))))


def _rounding(shift: np.ndarray) -> np.ndarray:
    """What turns the floor of a right shift into a rounding: half of 2^shift, int64."""
    return np.asarray((1 << np.maximum(np.asarray(shift, np.int64), 0)) >> 1)


def _integers(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -LIMIT, LIMIT).astype(np.int16)


def _as_float64(leaf: Any) -> np.ndarray:
    return np.asarray(leaf).astype(np.float64)


def _same(*exponents: int) -> int:
    if len(set(exponents)) != 1:
        raise AssertionError("the description adds activations of different spans")
    return exponents[0]


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise WeightsError(f"The entropy networks cannot be made exact: {name} exceeds 16 bits.")
