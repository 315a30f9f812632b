"""Unconditional families: one distribution a channel, learned with the model.

Their weights are constants of the model, one row a channel; at export they become a table a
channel. Values are rounded about 0.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from glc_jax.entropy import later, table_making
from glc_jax.entropy.families.base import Family
from glc_jax.entropy.group_coders import TableCoder
from glc_jax.entropy.integer import x64
from glc_jax.entropy.tables import ChannelTables

jax, jnp = later.module("jax"), later.module("jax.numpy")
distributions = later.module("glc_jax.entropy.distributions")

_LOG2_E = 1.4426950408889634
_WINDOW = 1024  # values that a table may hold lie in -1024 .. 1024; others are escapes


@dataclasses.dataclass(frozen=True)
class Static(Family):
    """A density for each channel, given by weights [C, P]."""

    parameters: ClassVar[tuple[str, ...]] = ("weights",)
    static: ClassVar[bool] = True

    def log_prob(self, values: jax.Array, weights: jax.Array) -> jax.Array:
        """log P(values - 1/2 < X < values + 1/2), nats: [..., C] and [C, P] -> [..., C]."""
        raise NotImplementedError

    def bits(self, values: jax.Array, *, weights: jax.Array) -> jax.Array:
        """See `Family.bits`."""
        return -_LOG2_E * self.log_prob(values, weights)

    def tables(self, *, weights: np.ndarray) -> dict[str, np.ndarray]:
        """See `Family.tables`: one table a channel."""
        values = np.arange(-_WINDOW, _WINDOW + 1, dtype=np.float64)
        with jax.ensure_compile_time_eval(), x64():
            every = jnp.asarray(np.repeat(values[:, None], len(weights), axis=1))
            log_prob = jax.jit(self.log_prob)(every, jnp.asarray(weights, jnp.float64))
            probabilities = np.exp(np.asarray(log_prob)).T
        return table_making.tables_of_channels(probabilities, -_WINDOW).to_arrays()

    def coder(self, arrays: Mapping[str, np.ndarray]) -> TableCoder:
        """See `Family.coder`."""
        return TableCoder(ChannelTables.from_arrays(arrays))


@dataclasses.dataclass(frozen=True)
class DeepFactorized(Static):
    """A cumulative distribution by a small monotone network for each channel.

    P(X < x) = sigmoid(f(x)), f = f_K o .. o f_1, f_k(x) = g_k(softplus(H) x + b), g_k(x) = x +
    tanh(a) tanh(x), the last f_k without g_k (Ballé et al. 2018, arXiv 1802.01436, section 6.1).
    Without hidden layers it is a logistic distribution.

    Attributes:
      filters: widths of the hidden layers.
      init_scale: roughly the scale of the distributions that `init` gives.
    """

    filters: tuple[int, ...] = (3, 3, 3)
    init_scale: float = 10.0

    @property
    def _sizes(self) -> list[tuple[int, int]]:
        widths = (1, *self.filters, 1)
        return list(itertools.pairwise(widths))

    def init(self, key: jax.Array, channels: int) -> dict[str, jax.Array]:
        """As published: {"weights": float32 [channels, P]}."""
        parts = []
        step = self.init_scale ** (1 / (len(self.filters) + 1))
        for i, (below, above) in enumerate(self._sizes):
            slope = np.log(np.expm1(1 / step / above))
            parts.append(jnp.full((channels, below * above), slope, jnp.float32))
            bias_key = jax.random.fold_in(key, i)
            parts.append(jax.random.uniform(bias_key, (channels, above), minval=-0.5, maxval=0.5))
            if i < len(self.filters):
                parts.append(jnp.zeros((channels, above)))
        return {"weights": jnp.concatenate(parts, axis=1)}

    def _logits(self, x: jax.Array, weights: jax.Array) -> jax.Array:
        """f(x): [..., C] -> [..., C]."""
        h, position = x[..., None], 0
        for i, (below, above) in enumerate(self._sizes):
            kernel = weights[:, position : position + below * above].reshape(-1, above, below)
            position += below * above
            bias = weights[:, position : position + above]
            position += above
            h = jnp.sum(jax.nn.softplus(kernel) * h[..., None, :], axis=-1) + bias
            if i < len(self.filters):
                h += jnp.tanh(weights[:, position : position + above]) * jnp.tanh(h)
                position += above
        return h[..., 0]

    def log_prob(self, values: jax.Array, weights: jax.Array) -> jax.Array:
        """See `Static.log_prob`: as `distributions.bin_log_prob`, on the side of the tail."""
        lower, upper = (self._logits(values + side, weights) for side in (-0.5, 0.5))
        right = lower + upper > 0
        far, near = jnp.where(right, -upper, lower), jnp.where(right, -lower, upper)
        log_far, log_near = jax.nn.log_sigmoid(far), jax.nn.log_sigmoid(near)
        fall = log_near - log_far
        falls = fall > 0.5
        by_difference = log_near + distributions.log1mexp(jnp.where(falls, fall, 1.0))

        def log_density(x: jax.Array) -> jax.Array:
            logits, slope = jax.jvp(lambda x: self._logits(x, weights), (x,), (jnp.ones_like(x),))
            slope = jnp.maximum(slope, 1e-30)
            return jax.nn.log_sigmoid(logits) + jax.nn.log_sigmoid(-logits) + jnp.log(slope)

        nodes, shares = np.polynomial.legendre.leggauss(3)
        logs = [
            log_density(values + 0.5 * node) + np.log(0.5 * share)
            for node, share in zip(nodes.tolist(), shares.tolist(), strict=True)
        ]
        return jnp.where(falls, by_difference, jax.nn.logsumexp(jnp.stack(logs), axis=0))


@dataclasses.dataclass(frozen=True)
class FourierBasis(Static):
    """A density by a Fourier series for each channel (De la Fuente et al. 2024, arXiv 2402.15345).

    u = tanh((x - offset) / scale) has the density (1 + 2 Re sum c_n / c_0 exp(i pi n u)) / 2 on
    -1 .. 1, whose coefficients c are the autocorrelation of learned a_0 .. a_N, so that it is
    never negative. A millionth of a constant is mixed in, so that no bits are infinite.

    Attributes:
      terms: N.
      init_scale: the scale at which `init` begins.
    """

    terms: int = 10
    init_scale: float = 10.0

    def init(self, key: jax.Array, channels: int) -> dict[str, jax.Array]:
        """Nearly the logistic density that u = tanh gives: {"weights": float32 [channels, P]}."""
        a = 0.01 * jax.random.normal(key, (channels, 2 * (self.terms + 1)))
        a = a.at[:, 0].set(1.0)
        scale = jnp.full((channels, 1), np.log(self.init_scale), jnp.float32)
        return {"weights": jnp.concatenate([a, scale, jnp.zeros((channels, 1))], axis=1)}

    def log_prob(self, values: jax.Array, weights: jax.Array) -> jax.Array:
        """See `Static.log_prob`: in closed form, nothing cancels."""
        count = self.terms + 1
        real, imaginary = weights[:, :count], weights[:, count : 2 * count]
        scale = jnp.exp(jnp.clip(weights[:, -2], -2.0, 14.0))
        t, half = (values - weights[:, -1]) / scale, 0.5 / scale
        # delta = tanh(t + half) - tanh(t - half), the bin's width in u.
        log_delta = _log_sinh(2 * half) - _log_cosh(t + half) - _log_cosh(t - half)
        middle = 0.5 * (jnp.tanh(t + half) + jnp.tanh(t - half))
        delta = jnp.exp(log_delta)
        power = jnp.sum(real**2 + imaginary**2, axis=1)
        a = real + 1j * imaginary
        waves = jnp.arange(1, count)
        padded = jnp.pad(a, ((0, 0), (0, count)))
        ahead = jnp.arange(count) + waves[:, None]
        c = jnp.sum(a[:, None] * jnp.conj(padded[:, ahead]), axis=-1)  # [C, N]
        angle = np.pi * middle[..., None] * waves
        wave = c.real * jnp.cos(angle) - c.imag * jnp.sin(angle)
        sinc = jnp.sinc(0.5 * delta[..., None] * waves)
        mean_density = 1 + 2 * jnp.sum(wave * sinc, axis=-1) / power
        mixed = (jnp.maximum(mean_density, 0) + 1e-6) / (1 + 1e-6)
        return log_delta + jnp.log(0.5 * mixed)


def _log_cosh(x: jax.Array) -> jax.Array:
    x = jnp.abs(x)
    return x + jnp.log1p(jnp.exp(-2 * x)) - np.log(2)


def _log_sinh(x: jax.Array) -> jax.Array:
    """For x > 0."""
    return x + distributions.log1mexp(2 * x) - np.log(2)
