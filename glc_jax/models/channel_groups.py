"""The channel-wise context model (Minnen and Singh 2020, arXiv 2007.08739, section 3.2)."""

import itertools

import flax.linen as nn

from glc_jax.entropy.groups import Block
from glc_jax.errors import ConfigError
from glc_jax.models.step_context import StepContext


class ChannelGroupsContext(StepContext):
    """Slices of the channels, one after the other, each at all positions at once.

    Attributes:
      steps: how many slices; as equal as C allows.
    """

    steps: int = 4

    @nn.nowrap
    def division(self) -> tuple[tuple[Block, ...], ...]:
        """The slices. Raises ConfigError where there are more than channels."""
        if not 1 <= self.steps <= self.channels:
            raise ConfigError(f"{self.channels} channels do not make {self.steps} slices.")
        edges = [self.channels * i // self.steps for i in range(self.steps + 1)]
        return tuple((Block(channels=(first, stop)),) for first, stop in itertools.pairwise(edges))
