"""The four-part context model: y is coded in four steps, each conditioned on the steps before.

The channels fall into four contiguous groups and the positions into the four members of each 2x2
cell; in every step each group codes another member, so that each step covers a quarter of all
elements evenly. Source: GLC, section 3.3, after DCVC-DC (Li et al. 2023, arXiv 2302.14402).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.entropy.families import Family
from glc_jax.entropy.groups import Block, Group, Latent
from glc_jax.models.family_parameters import parameters_init, split_parameters, width
from glc_jax.models.layers import DepthConvBlock, conv1x1

STEPS = 4
MIN_QUANT_STEP = 0.5

# STEP_MEMBERS[step][group] is the member of the 2x2 cell, row * 2 + column, that is coded.
STEP_MEMBERS = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))


def split_prior(prior: jax.Array, family: Family, channels: int) -> dict[str, jax.Array]:
    """The hyperprior's [B, H, W, (1 + P) C] -> quant_step (clamped from below), parameters."""
    quant_step = jnp.maximum(prior[..., :channels], MIN_QUANT_STEP)
    return {"quant_step": quant_step, **split_parameters(prior[..., channels:], family)}


class FourPartContext(nn.Module):
    """Reduction, three adaptors and the shared spatial prior.

    Attributes:
      channels: C of y, a multiple of 4.
      family: the distributions of y.
    """

    channels: int
    family: Family
    dtype: Any = None

    def setup(self):
        hidden = 2 * self.channels
        self.reduction = conv1x1(self.channels, self.dtype, None)
        self.adaptor_1 = DepthConvBlock(hidden, self.dtype)
        self.adaptor_2 = DepthConvBlock(hidden, self.dtype)
        self.adaptor_3 = DepthConvBlock(hidden, self.dtype)
        # Training starts with scale 1 and mean 0: a clamped scale has no gradient.
        last = DepthConvBlock(
            width(self.family) * self.channels,
            self.dtype,
            bias_init=parameters_init(self.family, self.channels),
        )
        self.prior = [DepthConvBlock(hidden, self.dtype), DepthConvBlock(hidden, self.dtype), last]

    @nn.nowrap
    def latents(self) -> tuple[Latent, ...]:
        """y, coded in steps of quant_step."""
        return (Latent("y", "context", f"4*h, 4*w, {self.channels}", unit="quant_step"),)

    @nn.nowrap
    def groups(self) -> tuple[Group, ...]:
        """The four steps."""
        size = self.channels // STEPS
        return tuple(
            Group(
                f"y/{step}",
                "y",
                tuple(
                    Block((member // 2, 2), (member % 2, 2), (g * size, (g + 1) * size))
                    for g, member in enumerate(STEP_MEMBERS[step])
                ),
                self.family,
                "context",
                step,
                ("y", "reduced") if step else ("prior",),
            )
            for step in range(STEPS)
        )

    def parameters(self, step: int, *reads: jax.Array) -> dict[str, jax.Array]:
        """The family's parameters [B, H, W, C] at a step.

        Step 0 reads the hyperprior's (1 + P) C values, and gives quant_step and "reduced", the
        context of the later steps [B, H, W, C], as well. The others read y [B, H, W, C], the
        elements decoded so far, in units of quant_step and 0 elsewhere, and "reduced".
        """
        if step == 0:
            (prior,) = reads
            given = split_prior(prior, self.family, self.channels)
            return {**given, "reduced": self.reduction(prior)}
        adaptor = (self.adaptor_1, self.adaptor_2, self.adaptor_3)[step - 1]
        h = adaptor(jnp.concatenate(reads, axis=-1))
        for block in self.prior:
            h = block(h)
        return split_parameters(h, self.family)
