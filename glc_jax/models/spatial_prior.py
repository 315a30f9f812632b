"""The four-part context model: y is coded in four steps, each conditioned on the steps before.

The channels fall into four contiguous groups and the positions into the four members of each 2x2
cell; in every step each group codes another member, so that each step covers a quarter of all
elements evenly. Source: GLC, section 3.3, after DCVC-DC (Li et al. 2023, arXiv 2302.14402).
"""

import flax.linen as nn

from glc_jax.entropy.groups import Block
from glc_jax.models.step_context import StepContext

STEPS = 4

# STEP_MEMBERS[step][group] is the member of the 2x2 cell, row * 2 + column, that is coded.
STEP_MEMBERS = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))


class FourPartContext(StepContext):
    """The published one: `channels` is a multiple of 4."""

    @nn.nowrap
    def division(self) -> tuple[tuple[Block, ...], ...]:
        """The four steps."""
        size = self.channels // STEPS
        return tuple(
            tuple(
                Block((member // 2, 2), (member % 2, 2), (g * size, (g + 1) * size))
                for g, member in enumerate(members)
            )
            for members in STEP_MEMBERS
        )
