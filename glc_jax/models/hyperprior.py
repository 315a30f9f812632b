"""Hyperpriors: h_a, a bottleneck z, h_s and the fusion, which gives y's parameters.

`Hyperprior` is what they have in common, `CategoricalHyperprior` GLC's own: z as indices of a
codebook. Source: GLC, section 3.3.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from glc_jax.entropy.families import Family
from glc_jax.entropy.groups import Derived, Group, Latent
from glc_jax.models.family_parameters import parameters_init, width
from glc_jax.models.layers import (
    LEAKY_SLOPE_DEPTHWISE,
    DepthConvBlock,
    ResidualUpsample,
    conv3x3,
)
from glc_jax.models.vqvae import VectorQuantized, VectorQuantizer


class HyperAnalysis(nn.Module):
    """h_a: y [B, H, W, C] -> z [B, H/4, W/4, C]."""

    dtype: Any = None

    @nn.compact
    def __call__(self, y: jax.Array) -> jax.Array:
        channels = y.shape[-1]
        h = DepthConvBlock(channels, self.dtype, name="block")(y)
        h = conv3x3(channels, self.dtype, "down_0", stride=2)(h)
        h = nn.leaky_relu(h, LEAKY_SLOPE_DEPTHWISE)
        return conv3x3(channels, self.dtype, "down_1", stride=2)(h)


class HyperSynthesis(nn.Module):
    """h_s: z_hat [B, h, w, C] -> [B, 4h, 4w, C]."""

    dtype: Any = None

    @nn.compact
    def __call__(self, z_hat: jax.Array) -> jax.Array:
        channels = z_hat.shape[-1]
        h = ResidualUpsample(channels, self.dtype, name="up_0")(z_hat)
        h = ResidualUpsample(channels, self.dtype, name="up_1")(h)
        return DepthConvBlock(channels, self.dtype, name="block")(h)


class Fusion(nn.Module):
    """[B, H, W, C] -> [B, H, W, (1 + P) C]: quant_step (not yet clamped), the P parameters."""

    family: Family
    dtype: Any = None

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        channels = h.shape[-1]
        h = DepthConvBlock(2 * channels, self.dtype, name="block_0")(h)
        # Training starts with quant_step 1, scale 1, mean 0: a clamped scale has no gradient.
        return DepthConvBlock(
            (1 + width(self.family)) * channels,
            self.dtype,
            bias_init=parameters_init(self.family, channels, before=(1.0,)),
            name="block_1",
        )(h)


class Hyperprior(nn.Module):
    """What is sent before y, and from it the prior's parameters of y.

    A hyperprior says what its latent is, what it quantises and, where z are indices, how vectors
    become indices (`quantise`) and indices vectors (`embed`). `prior` follows from z: quant_step
    and the parameters of y's family.

    Attributes:
      channels: C of y, and of h_a's z.
      codebook_size: how many values z should have at a position, where it has a finite number.
      family: of y.
    """

    channels: int
    codebook_size: int
    family: Family
    dtype: Any = None

    def setup(self):
        self.h_a = HyperAnalysis(self.dtype)
        self.h_s = HyperSynthesis(self.dtype)
        self.fusion = Fusion(self.family, self.dtype)

    @nn.nowrap
    def latents(self) -> tuple[Latent, ...]:
        """What is sent before y: "z", indices at 1/4 of y's size."""
        return (Latent("z", "hyperprior", "h, w", vectors=True),)

    @nn.nowrap
    def derived(self) -> dict[str, Derived]:
        """What the context model reads: "prior"."""
        return {"prior": Derived("hyperprior", "prior_params", ("z",))}

    @nn.nowrap
    def alphabet(self) -> int | None:
        """How many indices there are, of which `entropy.z_prior` is the distribution.

        None: z are numbers, and `groups` says how they are coded.
        """
        return None

    @nn.nowrap
    def groups(self) -> tuple[Group, ...]:
        """The groups of z, where they are the hyperprior's own."""
        return ()

    @nn.nowrap
    def codebooks(self) -> Mapping[str, str]:
        """By latent the path, below the hyperprior, of the codebook that training keeps in use.

        `quantise` of such a latent gives a `loss` as well.
        """
        return {}

    def targets(self, y: jax.Array) -> dict[str, jax.Array]:
        """y [B, H, W, C] -> what is quantised: z [B, H/4, W/4, C]."""
        return {"z": self.h_a(y)}

    def prior_params(self, z_hat: jax.Array) -> jax.Array:
        """z_hat [B, h, w, C] -> [B, 4h, 4w, (1 + P) C]: quant_step (not clamped), parameters."""
        return self.fusion(self.h_s(z_hat))


class CategoricalHyperprior(Hyperprior):
    """z as indices of a learned codebook of `codebook_size` rows."""

    def setup(self):
        super().setup()
        self.quantizer = VectorQuantizer(self.codebook_size, self.channels)

    @nn.nowrap
    def alphabet(self) -> int:
        """The rows of the codebook."""
        return self.codebook_size

    @nn.nowrap
    def codebooks(self) -> Mapping[str, str]:
        """Of z."""
        return {"z": "quantizer/codebook"}

    def quantise(self, z: jax.Array) -> VectorQuantized:
        """Nearest codebook rows of z [B, h, w, C]."""
        return self.quantizer(z)

    def embed(self, indices: jax.Array) -> jax.Array:
        """indices [B, h, w] -> z_hat [B, h, w, C]."""
        return self.quantizer.embed(indices)
