"""The stage "style": a stylist that paints any picture in the manner of any other.

The stylist trains, as a part of its own ("stylist"), with G's gradient passing through; the model
stays as it is. Contents are l_hat of every rate, as decoders have it; a style comes beside each.
"""

import jax.numpy as jnp

from glc_jax import companions
from glc_jax.models import colours, manner, stylist
from glc_jax.models.pixels import to_model_range
from glc_jax.models.stylist import Stylist
from glc_jax.training.config import Config
from glc_jax.training.stage import Forward, Stage


class StyleStage(Stage):
    """See the module."""

    part = companions.STYLIST
    beside = ("style",)
    gives = frozenset({"x_hat", *beside})

    def __init__(self, config: Config):
        self.highest = config.model["rate_points"] - 1.0

    def own_parameters(self, params, key):
        return stylist.first_parameters(params, key)

    def forward(self, model, variables, images, samples):
        latent = model.apply(variables, images, True, method="encode").astype(jnp.float32)
        content = model.apply(variables, latent, samples.rate, method="code").latent_hat
        x_hat = self._styled(model, variables, content, samples.beside["style"])
        return Forward({}, x_hat=x_hat)

    def reconstruct(self, model, variables, images, beside):
        latent = model.apply(variables, to_model_range(images), method="encode")
        rate = jnp.full(images.shape[0], self.highest)
        code = model.apply(variables, latent, rate, estimate=True, method="code")
        bpp = code.bits() / (images.shape[1] * images.shape[2])
        style = to_model_range(beside["style"])
        plain = model.apply(variables, code.latent_hat, method="generate")
        return {
            "plain": (plain, bpp),
            "styled": (self._styled(model, variables, code.latent_hat, style), bpp),
        }

    def _styled(self, model, variables, content, style):
        """x_hat [B, H, W, 3] of l_hat [B, h, w, C] in styles [B, H', W', 3]."""
        params = variables["params"]
        network, generator, own = (
            model.vqvae.generator,
            params["vqvae"]["generator"],
            params[self.part],
        )
        latent = model.apply(variables, style, True, method="encode")
        wanted = manner.seen(network, generator, latent)
        painted = Stylist(dtype=network.dtype).apply({"params": own["network"]}, content, latent)
        drawn = manner.drawn(network, stylist.own_generator(generator, own), painted, wanted)
        picture = drawn.picture.astype(jnp.float32)
        matrix, offset = colours.mapping(colours.moments(picture), colours.moments(style))
        return jnp.einsum("bhwc,bcd->bhwd", picture, matrix) + offset[:, None, None]
