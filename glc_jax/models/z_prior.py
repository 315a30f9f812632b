"""Priors of z's indices that need no network: all alike, or counted once."""

import dataclasses

from glc_jax.entropy.families import Categorical
from glc_jax.entropy.groups import WHOLE, Group


@dataclasses.dataclass(frozen=True)
class UniformPrior:
    """log2(size) bits an index, as published."""

    size: int
    counted: bool = False

    def groups(self) -> tuple[Group, ...]:
        """All of z at once."""
        family = Categorical(self.size)
        return (Group("z", "z", WHOLE, family, "z_prior", counted=self.counted),)

    def parameters(self, step: int) -> dict:
        """A uniform distribution has none."""
        del step
        return {}


@dataclasses.dataclass(frozen=True)
class StaticPrior(UniformPrior):
    """Counted over the calibration data when the weights are exported.

    Training and the estimate know the uniform distribution; a file has the shorter of the two.
    """

    counted: bool = True
