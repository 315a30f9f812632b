"""GLC: the parts put together, one method a step of the pipeline.

    x -encode-> l -analysis-> y -hyper_analysis-> z -quantize_z-> k, z_hat
    z_hat -prior_params-> params;   y, params -code_y-> y_q, y_hat
    y_hat -synthesis-> l_hat -generate-> x_hat

Every method is called through `model.apply(variables, ..., method="name")`. A part can be
replaced by another module with the same faces.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.models.code_predictor import CodePredictor
from glc_jax.models.hyperprior import CategoricalHyperprior
from glc_jax.models.spatial_prior import CodedY, FourPartContext
from glc_jax.models.transforms import RateScaledTransform
from glc_jax.models.vqvae import VQVAE, Encoder, Generator, VectorQuantized, VectorQuantizer

HYPER_DOWNSAMPLING = 4  # z has 1/4 of the size of y

# Scales of the lowest and the highest rate before training: the higher the rate, the larger y is
# against the quantisation step. g_s starts as the inverse of g_a.
LOWEST_RATE_SCALE, HIGHEST_RATE_SCALE = 0.8, 1.25


class GLC(nn.Module):
    """The whole codec as a differentiable model; fields are its parts.

    code_predictor reads l_hat, pixel_code_predictor reads E(x_hat); both serve training only and
    may be None.
    """

    vqvae: VQVAE
    g_a: nn.Module
    g_s: nn.Module
    hyperprior: nn.Module
    context: nn.Module
    code_predictor: nn.Module | None = None
    pixel_code_predictor: nn.Module | None = None

    def encode(self, x: jax.Array, train: bool = False) -> jax.Array:
        """E: image [B, H, W, 3] in [-1, 1] -> latent l [B, H/f, W/f, C]."""
        return self.vqvae.encoder(x, train)

    def generate(self, latent: jax.Array, train: bool = False) -> jax.Array:
        """G: latent [B, h, w, C] -> image [B, f*h, f*w, 3], not clamped."""
        return self.vqvae.generator(latent, train)

    def vector_quantize(self, latent: jax.Array) -> VectorQuantized:
        """The VQ-VAE's own codebook, for stage I and as the target of code prediction."""
        return self.vqvae.quantizer(latent)

    def analysis(self, latent: jax.Array, rate: jax.Array) -> jax.Array:
        """g_a: l [B, h, w, C], rate [B] float -> y [B, h, w, C]."""
        return self.g_a(latent, rate)

    def synthesis(self, y_hat: jax.Array, rate: jax.Array) -> jax.Array:
        """g_s: y_hat [B, h, w, C], rate [B] float -> l_hat [B, h, w, C]."""
        return self.g_s(y_hat, rate)

    def hyper_analysis(self, y: jax.Array) -> jax.Array:
        """h_a: y [B, h, w, C] -> z [B, h/4, w/4, C]."""
        return self.hyperprior.analysis(y)

    def quantize_z(self, z: jax.Array) -> VectorQuantized:
        """z [B, h/4, w/4, C] -> z_hat and the indices k that are sent."""
        return self.hyperprior.quantize(z)

    def embed_z(self, indices: jax.Array) -> jax.Array:
        """k [B, h/4, w/4] int32 -> z_hat [B, h/4, w/4, C]."""
        return self.hyperprior.embed(indices)

    def prior_params(self, z_hat: jax.Array) -> jax.Array:
        """z_hat [B, h/4, w/4, C] -> [B, h, w, 3C]: quant_step (not clamped), scales, means."""
        return self.hyperprior.prior_params(z_hat)

    def code_y(
        self,
        y: jax.Array,
        params: jax.Array,
        quantize: Callable[[jax.Array], jax.Array] = jnp.round,
    ) -> CodedY:
        """The four-part context model over y; `quantize` maps residuals to y_q."""
        return self.context(y, params, quantize)

    def preview_y(self, params: jax.Array) -> jax.Array:
        """y_hat [B, h, w, C] from z alone: every y_q is 0."""
        y = jnp.zeros((*params.shape[:-1], params.shape[-1] // 3), params.dtype)
        return self.context(y, params, jnp.zeros_like).y_hat

    def predict_codes(self, latent: jax.Array) -> jax.Array:
        """Logits [B, h * w, codebook] of the code predictor that reads l_hat."""
        return self.code_predictor(latent)

    def predict_codes_from_pixels(self, latent: jax.Array) -> jax.Array:
        """Logits [B, h * w, codebook] of the code predictor that reads E(x_hat)."""
        return self.pixel_code_predictor(latent)

    def __call__(self, x: jax.Array, rate: jax.Array, train: bool = False) -> jax.Array:
        """x [B, H, W, 3], rate [B] -> x_hat [B, H, W, 3], through every part.

        H and W must be multiples of `size_multiple`. Initialising through this method creates
        the parameters of all parts.
        """
        latent = self.encode(x, train)
        vq = self.vector_quantize(latent)
        y = self.analysis(latent, rate)
        z_hat = self.quantize_z(self.hyper_analysis(y)).quantized
        coded = self.code_y(y, self.prior_params(z_hat))
        latent_hat = self.synthesis(coded.y_hat, rate)
        if self.is_initializing():
            self.generate(vq.quantized, train)
            if self.code_predictor is not None:
                self.predict_codes(latent_hat)
            if self.pixel_code_predictor is not None:
                self.predict_codes_from_pixels(latent)
        return self.generate(latent_hat, train)


def build(model: Mapping[str, Any], dtype: Any = None, remat: bool = False) -> GLC:
    """The model that a config's `model` section describes (see configs/natural.py).

    `dtype` is the type of the computation (None: that of the parameters). `remat` trades time for
    memory in the gradients of encoder and generator.
    """
    channels = model["latent_channels"]
    codebook_size = model["codebook_size"]
    vqvae = dict(model["vqvae"])
    shared = {
        "base_channels": vqvae["base_channels"],
        "multipliers": tuple(vqvae["multipliers"]),
        "latent_channels": channels,
        "norm_groups": vqvae["norm_groups"],
        "window": vqvae["window"],
        "latent_conv": vqvae["latent_conv"],
        "output_swish": vqvae["output_swish"],
        "remat": remat,
        "dtype": dtype,
    }
    rate_points = model["rate_points"]

    def predictor() -> CodePredictor | None:
        fields = model["code_predictor"]
        return CodePredictor(codebook_size, **fields, dtype=dtype) if fields else None

    return GLC(
        vqvae=VQVAE(
            encoder=Encoder(blocks=tuple(vqvae["encoder_blocks"]), **shared),
            generator=Generator(blocks=tuple(vqvae["generator_blocks"]), **shared),
            quantizer=VectorQuantizer(codebook_size, channels),
        ),
        g_a=RateScaledTransform(rate_points, LOWEST_RATE_SCALE, HIGHEST_RATE_SCALE, dtype),
        g_s=RateScaledTransform(rate_points, 1 / LOWEST_RATE_SCALE, 1 / HIGHEST_RATE_SCALE, dtype),
        hyperprior=CategoricalHyperprior(channels, model["hyper_codebook_size"], dtype),
        context=FourPartContext(channels, dtype),
        code_predictor=predictor(),
        pixel_code_predictor=predictor(),
    )


def downsampling(model: Mapping[str, Any]) -> int:
    """f: how many image pixels a latent position spans in each direction."""
    return 2 ** (len(model["vqvae"]["multipliers"]) - 1)


def size_multiple(model: Mapping[str, Any]) -> int:
    """Height and width of what the model sees are multiples of this: f times that of z."""
    return downsampling(model) * HYPER_DOWNSAMPLING


def initial_side(model: Mapping[str, Any]) -> int:
    """The side of a square image that `GLC.init` can take: a code predictor fixes it."""
    if not model["code_predictor"]:
        return size_multiple(model)
    return downsampling(model) * math.isqrt(model["code_predictor"]["positions"])
