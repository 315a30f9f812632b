"""The factorised hyperprior (Ballé et al. 2018, arXiv 1802.01436, section 3): z are numbers."""

import flax.linen as nn
import jax

from glc_jax.entropy.families import DeepFactorized, FourierBasis, Static
from glc_jax.entropy.groups import WHOLE, Group, Latent
from glc_jax.errors import ConfigError
from glc_jax.models.hyperprior import Hyperprior

DENSITIES = {"deep_factorized": DeepFactorized, "fourier_basis": FourierBasis}


class FactorisedHyperprior(Hyperprior):
    """z rounded to integers, each channel with one learned distribution.

    Attributes:
      density: the distribution, deep_factorized or fourier_basis.
    """

    density: str = "deep_factorized"

    def setup(self):
        super().setup()
        start = self._density().init
        self.weights = self.param("weights", lambda key: start(key, self.channels)["weights"])

    @nn.nowrap
    def _density(self) -> Static:
        if self.density not in DENSITIES:
            raise ConfigError(f"There is no density {self.density!r}: {', '.join(DENSITIES)}.")
        return DENSITIES[self.density]()

    @nn.nowrap
    def latents(self) -> tuple[Latent, ...]:
        """z, integers in each of C channels."""
        return (Latent("z", "hyperprior", f"h, w, {self.channels}"),)

    @nn.nowrap
    def groups(self) -> tuple[Group, ...]:
        """All of z at once."""
        return (Group("z", "z", WHOLE, self._density(), "hyperprior"),)

    def parameters(self, step: int) -> dict[str, jax.Array]:
        """The densities' weights [C, P]."""
        del step
        return {"weights": self.weights}
