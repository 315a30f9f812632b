"""The four-part context model: y is coded in four steps, each conditioned on the steps before.

The channels fall into four contiguous groups and the positions into the four members of each 2x2
cell; in every step each group codes another member, so that each step covers a quarter of all
elements evenly. Source: GLC, section 3.3, after DCVC-DC (Li et al. 2023, arXiv 2302.14402).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.models.layers import DepthConvBlock, conv1x1, sections_init

STEPS = 4
MIN_QUANT_STEP = 0.5

# STEP_MEMBERS[step][group] is the member of the 2x2 cell, row * 2 + column, that is coded.
STEP_MEMBERS = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))


def step_mask(step: int, height: int, width: int, channels: int) -> np.ndarray:
    """True where `step` codes: [height, width, channels] bool."""
    rows, columns = np.indices((height, width))
    member = (rows % 2) * 2 + columns % 2
    group = np.arange(channels) // (channels // STEPS)
    return member[..., None] == np.asarray(STEP_MEMBERS[step])[group]


class CodedY(NamedTuple):
    """The outcome of the four steps, each [B, H, W, C].

    y_q: rounded residuals, what the entropy coder sees. y_hat: the dequantised latent, quant_step
    multiplied in. scales, means: those of the step that coded each element, scales not clamped.
    """

    y_q: jax.Array
    y_hat: jax.Array
    scales: jax.Array
    means: jax.Array


def split_prior_params(params: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B, H, W, 3C] -> quant_step (clamped from below), scales, means, each [B, H, W, C]."""
    quant_step, scales, means = jnp.split(params, 3, axis=-1)
    return jnp.maximum(quant_step, MIN_QUANT_STEP), scales, means


class FourPartContext(nn.Module):
    """Reduction, three adaptors and the shared spatial prior."""

    channels: int
    dtype: Any = None

    def setup(self):
        width = 2 * self.channels
        self.reduction = conv1x1(self.channels, self.dtype, None)
        self.adaptor_1 = DepthConvBlock(width, self.dtype)
        self.adaptor_2 = DepthConvBlock(width, self.dtype)
        self.adaptor_3 = DepthConvBlock(width, self.dtype)
        # Training starts with scale 1 and mean 0: a clamped scale has no gradient.
        inits = (nn.initializers.zeros, nn.initializers.zeros, sections_init(1.0, 0.0))
        self.prior = [DepthConvBlock(width, self.dtype, bias_init=init) for init in inits]

    def reduce(self, params: jax.Array) -> jax.Array:
        """The prior's parameters [B, H, W, 3C] as context for the later steps: [B, H, W, C]."""
        return self.reduction(params)

    def step_params(
        self, step: int, y_hat: jax.Array, reduced: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Scales and means, each [B, H, W, C], of step 1, 2 or 3.

        y_hat [B, H, W, C] holds the elements decoded so far, in units of quant_step, and 0
        elsewhere.
        """
        adaptor = (self.adaptor_1, self.adaptor_2, self.adaptor_3)[step - 1]
        h = adaptor(jnp.concatenate([y_hat, reduced], axis=-1))
        for block in self.prior:
            h = block(h)
        scales, means = jnp.split(h, 2, axis=-1)
        return scales, means

    def __call__(
        self,
        y: jax.Array,
        params: jax.Array,
        quantize: Callable[[jax.Array], jax.Array] = jnp.round,
    ) -> CodedY:
        """Code y [B, H, W, C] with the prior's parameters [B, H, W, 3C].

        `quantize` maps the residual y / quant_step - means to y_q: rounding half to even, or a
        differentiable stand-in.
        """
        quant_step, scales, means = split_prior_params(params)
        y = y / quant_step
        reduced = self.reduce(params)
        total = CodedY(*(jnp.zeros_like(y) for _ in CodedY._fields))
        for step in range(STEPS):
            if step:
                scales, means = self.step_params(step, total.y_hat, reduced)
            mask = jnp.asarray(step_mask(step, *y.shape[1:]), y.dtype)
            y_q = quantize(y - means)
            coded = CodedY(y_q, y_q + means, scales, means)
            total = CodedY(*(t + mask * c for t, c in zip(total, coded, strict=True)))
        return total._replace(y_hat=total.y_hat * quant_step)
