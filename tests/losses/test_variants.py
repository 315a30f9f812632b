"""The losses are pure: with jit, on a device of one's choice and without, they are the same."""

import chex
import jax
import numpy as np
from absl.testing import parameterized

from glc_jax.losses import adversarial, code_prediction, pixel, spectrum

X, Y = jax.random.uniform(jax.random.key(0), (2, 2, 48, 48, 3), minval=-1)
ROWS = X.reshape(2, -1, 3)
CODES = jax.random.randint(jax.random.key(1), ROWS.shape[:2], 0, 3)
CASES = {
    "l1": (pixel.l1, X, Y),
    "l2": (pixel.l2, X, Y),
    "multiscale_l1": (pixel.multiscale_l1, X, Y),
    "spectral_excess": (spectrum.spectral_excess, X, Y),
    "discriminator_hinge": (adversarial.discriminator_hinge, X, Y),
    "generator_hinge": (adversarial.generator_hinge, X),
    "latent_mse": (code_prediction.latent_mse, X, Y),
    "cross_entropy": (code_prediction.cross_entropy, ROWS, CODES),
}


class Losses(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    @parameterized.parameters(*CASES)
    def test_a_loss_does_not_depend_on_how_it_is_run(self, name):
        loss, *arguments = CASES[name]
        np.testing.assert_allclose(self.variant(loss)(*arguments), loss(*arguments), rtol=1e-5)
