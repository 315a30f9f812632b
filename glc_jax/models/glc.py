"""GLC: the parts put together, and the one path from a latent to bits and back.

    x -encode-> l -g_a-> y -h_a-> z;   z, y -entropy model-> bits, y_hat;   y_hat -g_s-> l_hat
    l_hat -generate-> x_hat

Every method is called through `model.apply(variables, ..., method="name")`. A part can be
replaced by another module with the same faces: `config.model.entropy` names those of the entropy
model (`choices`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from glc_jax.entropy import groups
from glc_jax.entropy.groups import CodedLatent, EntropyModel
from glc_jax.models import choices
from glc_jax.models.code_predictor import CodePredictor
from glc_jax.models.transforms import RateScaledTransform
from glc_jax.models.vqvae import VQVAE, Encoder, Generator, VectorQuantized, VectorQuantizer

# Scales of the lowest and the highest rate before training: the higher the rate, the larger y is
# against the quantisation step. g_s starts as the inverse of g_a.
LOWEST_RATE_SCALE, HIGHEST_RATE_SCALE = 0.8, 1.25


@flax.struct.dataclass
class Code:
    """What coding a latent gives.

    latent_hat: [B, h, w, C], what G draws from. targets: by latent of the entropy model, what was
    quantised. coded: by the same names, a `groups.CodedLatent`.
    """

    latent_hat: jax.Array
    targets: dict[str, jax.Array]
    coded: dict[str, CodedLatent]

    def bits(self, latent: str | None = None) -> jax.Array:
        """Bits of each picture, [B]: of one latent, or of all."""
        chosen = self.coded.values() if latent is None else [self.coded[latent]]
        return sum(bits for one in chosen for bits in one.bits.values())


class GLC(nn.Module):
    """The whole codec as a differentiable model; fields are its parts.

    hyperprior, z_prior and context are those of the entropy model; the groups of symbols that they
    name are all that a file holds. z_prior is None where the hyperprior has its own groups.
    code_predictor reads l_hat, pixel_code_predictor reads
    E(x_hat); both serve training only and may be None.
    """

    vqvae: VQVAE
    g_a: nn.Module
    g_s: nn.Module
    hyperprior: nn.Module
    context: nn.Module
    z_prior: Any = None
    code_predictor: nn.Module | None = None
    pixel_code_predictor: nn.Module | None = None

    @nn.nowrap
    def entropy_model(self) -> EntropyModel:
        """The latents and groups of symbols, in the order of a file."""
        of_z = self.hyperprior if self.z_prior is None else self.z_prior
        return EntropyModel(
            (*self.hyperprior.latents(), *self.context.latents()),
            (*of_z.groups(), *self.context.groups()),
            self.hyperprior.derived(),
        )

    @nn.nowrap
    def run(self, variables: Any, function: Callable[..., Any], *arrays: Any) -> Any:
        """function(model, *arrays) with the variables bound: what `entropy.export` asks for."""
        return self.apply(variables, *arrays, method=function)

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

    def targets(self, latent: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        """What is to be quantised, by latent of the entropy model: y [B, h, w, C], z, ..."""
        y = self.g_a(latent, rate)
        y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        found = {**self.hyperprior.targets(y), "y": y}
        return {name: value.astype(y.dtype) for name, value in found.items()}

    def to_code(self, latent: jax.Array, rate: jax.Array) -> dict[str, jax.Array]:
        """What the exact entropy model codes: indices of vectors, real values of the rest."""
        return self.entropy_model().to_code(self, self.targets(latent, rate))

    def counted(
        self, targets: dict[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """`EntropyModel.counted` of this model."""
        return self.entropy_model().counted(self, targets)

    def code(
        self,
        latent: jax.Array,
        rate: jax.Array,
        quantise: groups.Quantise = groups.rounded,
        **how: Any,
    ) -> Code:
        """The path from l [B, h, w, C] at rates [B] to bits and l_hat.

        `quantise` and `how` are those of `EntropyModel.code`: by default symbols are rounded, as
        in a file.
        """
        targets = self.targets(latent, rate)
        coded = self.entropy_model().code(self, targets, quantise, **how)
        return Code(self.g_s(coded["y"].values, rate), targets, coded)

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
        latent_hat = self.code(latent, rate).latent_hat
        if self.is_initializing():
            self.generate(vq.quantized, train)
            if self.code_predictor is not None:
                self.predict_codes(latent_hat)
            if self.pixel_code_predictor is not None:
                self.predict_codes_from_pixels(latent)
        return self.generate(latent_hat, train)


def build(
    model: Mapping[str, Any],
    dtype: Any = None,
    remat: bool = False,
    find: choices.Finder = choices.of_user,
) -> GLC:
    """The model that a config's `model` section describes (see configs/natural.py).

    `dtype` is the type of the computation (None: that of the parameters). `remat` trades time for
    memory in the gradients of encoder and generator. `find` finds the classes that
    `model["entropy"]` names.

    Raises ConfigError for a part that is not to be had, or does not have the given fields.
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

    hyperprior, context, z_prior = choices.entropy_parts(
        choices.read(model), channels, model["hyper_codebook_size"], dtype, find
    )
    return GLC(
        vqvae=VQVAE(
            encoder=Encoder(blocks=tuple(vqvae["encoder_blocks"]), **shared),
            generator=Generator(blocks=tuple(vqvae["generator_blocks"]), **shared),
            quantizer=VectorQuantizer(codebook_size, channels),
        ),
        g_a=RateScaledTransform(rate_points, LOWEST_RATE_SCALE, HIGHEST_RATE_SCALE, dtype),
        g_s=RateScaledTransform(rate_points, 1 / LOWEST_RATE_SCALE, 1 / HIGHEST_RATE_SCALE, dtype),
        hyperprior=hyperprior,
        context=context,
        z_prior=z_prior,
        code_predictor=predictor(),
        pixel_code_predictor=predictor(),
    )
