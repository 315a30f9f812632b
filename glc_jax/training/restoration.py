"""The stage "restore": an encoder that sees the clean picture in a spoiled one.

Only the encoder's side trains, as a part of its own ("restorer"), begun from the model's; the model
stays as it is. What the restorer is to give of a spoiled crop is what the model gives of the clean
one at the same rate: its l_hat. No generator is needed for that; where a loss of pictures is in
use, x_hat is drawn as well.
"""

import jax
import jax.numpy as jnp

from glc_jax import companions
from glc_jax.training.config import Config
from glc_jax.training.evaluation import through_rates
from glc_jax.training.objectives import objectives
from glc_jax.training.stages import TransformStage


class RestorationStage(TransformStage):
    """See the module; the targets of `Forward` are those of the clean picture."""

    part = companions.RESTORER
    beside = ("degraded",)

    def __init__(self, config: Config):
        super().__init__(config)
        drawn = self.gives | {"x_hat"}
        self.draws = bool(config.adversarial.weight) or any(
            "x_hat" in loss.needs for loss in objectives(config, drawn)
        )
        if self.draws:
            self.gives = drawn

    def own_parameters(self, params, key):
        return companions.encoder_side(params)

    def forward(self, model, variables, images, samples):
        restored = self._restored(variables)
        clean = model.apply(variables, images, True, method="encode").astype(jnp.float32)
        wanted = model.apply(variables, clean, samples.rate, method="code").latent_hat
        spoiled = samples.beside["degraded"]
        latent = model.apply(restored, spoiled, True, method="encode")
        out = self._transform_coding(model, restored, images, samples, latent).replace(
            latent=jax.lax.stop_gradient(wanted).astype(jnp.float32),
            indices=model.apply(variables, clean, method="vector_quantize").indices,
        )
        if not self.draws:
            return out
        x_hat = model.apply(variables, out.latent_hat, True, method="generate")
        return out.replace(x_hat=x_hat.astype(jnp.float32))

    def reconstruct(self, model, variables, images, beside):
        restored = self._restored(variables)
        return through_rates(model, restored, self.config.model, beside["degraded"])

    def _restored(self, variables):
        params = variables["params"]
        return {"params": companions.restoring(params, params[self.part])}
