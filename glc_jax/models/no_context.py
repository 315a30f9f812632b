"""No context model: y has the hyperprior's parameters, all at once (Ballé et al. 2018)."""

import flax.linen as nn

from glc_jax.entropy.groups import WHOLE, Block
from glc_jax.models.step_context import StepContext


class NoContext(StepContext):
    """One step, without a network. Its files are the quickest to read."""

    @nn.nowrap
    def division(self) -> tuple[tuple[Block, ...], ...]:
        """Everything."""
        return (WHOLE,)
