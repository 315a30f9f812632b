"""A prior of z's indices from the indices before: the four members of each 2x2 cell in turn."""

from typing import Any

import flax.linen as nn
import jax

from glc_jax.entropy.families import CategoricalLogits
from glc_jax.entropy.groups import Block, Group
from glc_jax.models.layers import DepthConvBlock, conv1x1

MEMBERS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""(row, column) of the positions of each step."""


class AutoregressivePrior(nn.Module):
    """Logits of every index, from the vectors of those decoded in earlier steps.

    The second member lies between four of the first. The logits come from one layer for all steps.

    Attributes:
      size: of z's alphabet.
      hidden: channels of the network.
      blocks: of the network that all steps share, after one of each step's own.
    """

    size: int
    hidden: int = 64
    blocks: int = 2
    dtype: Any = None

    def setup(self):
        self.inputs = [conv1x1(self.hidden, self.dtype, None) for _ in MEMBERS]
        self.adaptors = [DepthConvBlock(self.hidden, self.dtype) for _ in MEMBERS]
        self.shared = [DepthConvBlock(self.hidden, self.dtype) for _ in range(self.blocks)]
        self.logits = conv1x1(self.size, self.dtype, None)

    @nn.nowrap
    def groups(self) -> tuple[Group, ...]:
        """One group a member."""
        return tuple(
            Group(
                f"z/{step}",
                "z",
                (Block((row, 2), (column, 2)),),
                CategoricalLogits(self.size),
                "z_prior",
                step,
                ("z",),
            )
            for step, (row, column) in enumerate(MEMBERS)
        )

    def parameters(self, step: int, z: jax.Array) -> dict[str, jax.Array]:
        """Logits [B, h, w, size] at a step, from the vectors z [B, h, w, C] so far, 0 elsewhere."""
        h = self.adaptors[step](self.inputs[step](z))
        for block in self.shared:
            h = block(h)
        return {"logits": self.logits(h)}
