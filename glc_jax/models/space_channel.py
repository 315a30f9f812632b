"""The space-channel context model with uneven groups (ELIC; He et al. 2022, arXiv 2203.10886)."""

import dataclasses

import flax.linen as nn

from glc_jax.entropy.groups import Block
from glc_jax.errors import ConfigError
from glc_jax.models.step_context import EVEN, ODD, StepContext


def published_shares(groups: int) -> tuple[float, ...]:
    """1, 1, 2, 4 and so on, and last half as many again as all before: of 5 groups ELIC's."""
    first = [max(1.0, 2.0 ** (i - 1)) for i in range(groups - 1)]
    return (*first, 1.5 * sum(first)) if first else (1.0,)


class SpaceChannelContext(StepContext):
    """Groups of channels, few first, each coded as a checkerboard in two steps.

    Attributes:
      steps: twice the number of groups; the published five of 320 channels have 16, 16, 32, 64 and
        192 of them, and other numbers the same pattern. Each group has at least one channel.
    """

    steps: int = 10

    @nn.nowrap
    def division(self) -> tuple[tuple[Block, ...], ...]:
        """Two steps a group. Raises ConfigError where there are more groups than channels."""
        count = self.steps // 2
        if self.steps % 2 or not 1 <= count <= self.channels:
            raise ConfigError(
                f"{self.channels} channels do not make {self.steps} steps: give an even number, "
                "two for each group of channels."
            )
        shares = published_shares(count)
        steps, first = [], 0
        for i in range(count):
            wanted = round(self.channels * sum(shares[: i + 1]) / sum(shares))
            stop = min(max(wanted, first + 1), self.channels - (count - 1 - i))
            for colour in (EVEN, ODD):
                blocks = [dataclasses.replace(b, channels=(first, stop)) for b in colour]
                steps.append(tuple(blocks))
            first = stop
        return tuple(steps)
