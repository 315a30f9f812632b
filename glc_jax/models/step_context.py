"""What context models of y have in common: steps, each seeing what the steps before have decoded.

A context model divides y's elements into steps. The first has the hyperprior's parameters; each
later one has an adaptor of its own, over what is decoded so far and the hyperprior's context, and
a network that all share. So only the division differs from model to model.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.entropy.families import Family
from glc_jax.entropy.groups import Block, Group, Latent
from glc_jax.models.family_parameters import parameters_init, split_parameters, width
from glc_jax.models.layers import DepthConvBlock, conv1x1

MIN_QUANT_STEP = 0.5

EVEN = (Block((0, 2), (0, 2)), Block((1, 2), (1, 2)))
"""The positions of a checkerboard where row and column are both even or both odd."""

ODD = (Block((0, 2), (1, 2)), Block((1, 2), (0, 2)))
"""The others."""


def split_prior(prior: jax.Array, family: Family, channels: int) -> dict[str, jax.Array]:
    """The hyperprior's [B, H, W, (1 + P) C] -> quant_step (clamped from below), parameters."""
    quant_step = jnp.maximum(prior[..., :channels], MIN_QUANT_STEP)
    return {"quant_step": quant_step, **split_parameters(prior[..., channels:], family)}


class StepContext(nn.Module):
    """A context model by its `division`.

    Attributes:
      channels: C of y.
      family: the distributions of y.
      prior_blocks: of the network that the later steps share.
    """

    channels: int
    family: Family
    prior_blocks: int = 3
    dtype: Any = None

    @nn.nowrap
    def division(self) -> tuple[tuple[Block, ...], ...]:
        """Where the symbols of each step lie; together they cover y once."""
        raise NotImplementedError

    def setup(self):
        later = len(self.division()) - 1
        if not later:
            return
        hidden = 2 * self.channels
        self.reduction = conv1x1(self.channels, self.dtype, None)
        for step in range(1, later + 1):
            setattr(self, f"adaptor_{step}", DepthConvBlock(hidden, self.dtype))
        # Training starts where the family says: a clamped scale has no gradient.
        last = DepthConvBlock(
            width(self.family) * self.channels,
            self.dtype,
            bias_init=parameters_init(self.family, self.channels),
        )
        inner = [DepthConvBlock(hidden, self.dtype) for _ in range(self.prior_blocks - 1)]
        self.prior = [*inner, last]

    @nn.nowrap
    def latents(self) -> tuple[Latent, ...]:
        """y, coded in units of quant_step."""
        return (Latent("y", "context", f"4*h, 4*w, {self.channels}", unit="quant_step"),)

    @nn.nowrap
    def groups(self) -> tuple[Group, ...]:
        """One group a step."""
        return tuple(
            Group(
                f"y/{step}",
                "y",
                blocks,
                self.family,
                "context",
                step,
                ("y", "reduced") if step else ("prior",),
            )
            for step, blocks in enumerate(self.division())
        )

    def parameters(self, step: int, *reads: jax.Array) -> dict[str, jax.Array]:
        """The family's parameters [B, H, W, width C] at a step.

        Step 0 reads the hyperprior's (1 + P) C values, and gives quant_step and "reduced", the
        context of the later steps [B, H, W, C], as well. The others read y [B, H, W, C], the
        elements decoded so far, in units of quant_step and 0 elsewhere, and "reduced".
        """
        if step == 0:
            (prior,) = reads
            given = split_prior(prior, self.family, self.channels)
            if len(self.division()) > 1:
                given["reduced"] = self.reduction(prior)
            return given
        h = getattr(self, f"adaptor_{step}")(jnp.concatenate(reads, axis=-1))
        for block in self.prior:
            h = block(h)
        return split_parameters(h, self.family)
