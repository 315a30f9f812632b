"""The checkerboard context model (He et al. 2021, arXiv 2103.15306)."""

import flax.linen as nn

from glc_jax.entropy.groups import Block
from glc_jax.models.step_context import EVEN, ODD, StepContext


class CheckerboardContext(StepContext):
    """Two steps: the positions of one colour, then, from their four neighbours, of the other."""

    @nn.nowrap
    def division(self) -> tuple[tuple[Block, ...], ...]:
        """The two colours."""
        return (EVEN, ODD)
