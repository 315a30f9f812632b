"""GLC's three training stages: what passes forward through the model, and what is held out.

Stage I trains the VQ-VAE, stage II the transform coding within its frozen latent space, stage III
everything together (GLC, arXiv 2512.20194, section 3.4).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from glc_jax import named
from glc_jax.entropy import codebooks, groups, quantize
from glc_jax.entropy.groups import Latent
from glc_jax.models import glc
from glc_jax.models.glc import GLC
from glc_jax.training.codebook import code_share
from glc_jax.training.config import Config
from glc_jax.training.evaluation import through_codebook, through_rates
from glc_jax.training.parameters import select
from glc_jax.training.samples import Samples
from glc_jax.training.stage import HYPER_CODES, LATENT_CODEBOOK, Codes, Forward, Stage


class VQVAEStage(Stage):
    """Stage I: E, codebook, G."""

    codebooks = (LATENT_CODEBOOK,)
    gives = frozenset({"x_hat", "latent", *codebooks})

    def __init__(self, config: Config):
        self.codes = config.model["codebook_size"]
        self.gradient = codebook_gradient(config)

    def forward(self, model, variables, images, samples):
        latent = model.apply(variables, images, True, method="encode").astype(jnp.float32)
        vq = model.apply(variables, latent, method="vector_quantize")
        rows = self.gradient(latent, vq)
        seen = jnp.where(samples.quantised[:, None, None, None], rows, latent)
        x_hat = model.apply(variables, seen, True, method="generate").astype(jnp.float32)
        codes = {LATENT_CODEBOOK: _codes(vq, latent, self.codes)}
        return Forward(codes, x_hat=x_hat, latent=jax.lax.stop_gradient(latent))

    def reconstruct(self, model, variables, images, beside):
        return through_codebook(model, variables, images)


class TransformStage(Stage):
    """Stage II: transform coding of E's frozen latents."""

    also_gives: frozenset[str] = frozenset()

    def __init__(self, config: Config):
        quantize.from_config(config.quantizer)
        self.config = config
        self.gradient = codebook_gradient(config)
        hyperprior = glc.build(config.model).hyperprior
        self.codebook_of = {
            latent: f"hyperprior/{path}" for latent, path in hyperprior.codebooks().items()
        }
        self.codebooks = tuple(self.codebook_of.values())
        codes = {HYPER_CODES, *self.codebooks} if self.codebooks else set()
        self.gives = self.also_gives | {"latent", "indices", "latent_hat", "bpp", *codes}

    def forward(self, model, variables, images, samples):
        latent = jax.lax.stop_gradient(model.apply(variables, images, True, method="encode"))
        return self._transform_coding(model, variables, images, samples, latent)

    def reconstruct(self, model, variables, images, beside):
        return through_rates(model, variables, self.config.model, images)

    def _transform_coding(
        self, model: GLC, variables: Any, images: jax.Array, samples: Samples, latent: jax.Array
    ) -> Forward:
        """The forward pass from l to l_hat: all but x_hat.

        l_hat and the rate come from what the quantiser gives for each. The steps of the context
        model share a sample's noise, on disjoint elements.
        """
        config = self.config
        quantiser = quantize.from_config(config.quantizer)

        def quantise(residuals: jax.Array, scale: jax.Array | None) -> quantize.Quantised:
            return quantiser(residuals, quantize.Moment(samples.step, samples.keys, scale))

        code = model.apply(
            variables,
            latent.astype(jnp.float32),
            samples.rate,
            quantise,
            vectors=self._vectors(samples),
            training=True,
            method="code",
        )
        # Symbols whose probabilities do not depend on parameters cost the same whatever is trained.
        bits = {
            name: sum(
                code.coded[name].bits[group.name]
                for group in model.entropy_model().of(name)
                if group.family.parameters
            )
            for name in code.coded
        }
        pixels = images.shape[1] * images.shape[2]
        points = config.model["rate_points"]
        bpp = sum(bits.values()) / pixels

        sizes = {path: leaf.shape[0] for path, leaf in select(variables["params"], "").items()}
        target = jax.lax.stop_gradient(latent).astype(jnp.float32)
        metrics = {  # over steps enough, every rate point has the same share of the samples
            f"bpp_{name}_{point}": points * jnp.mean(value / pixels * (samples.rate == point))
            for name, value in bits.items()
            if isinstance(value, jax.Array)
            for point in range(points)
        }
        return Forward(
            {
                path: _codes(code.coded[name].quantised, code.targets[name], sizes[path])
                for name, path in self.codebook_of.items()
            },
            latent=target,
            indices=model.apply(variables, target, method="vector_quantize").indices,
            latent_hat=code.latent_hat.astype(jnp.float32),
            bpp=bpp,
            metrics=metrics,
        )

    def _vectors(self, samples: Samples) -> groups.Vectors:
        """Vectors as they are until their codebook has been set, and then its rows."""

        def vectors(latent: Latent, found: Any, target: jax.Array) -> jax.Array:
            if latent.name not in self.codebook_of:
                return found.quantized
            return jnp.where(samples.codebook_ready, self.gradient(target, found), target)

        return vectors


class JointStage(TransformStage):
    """Stage III: everything at once, x_hat = G(l_hat).

    The target of the latent and code losses is E(x) without gradient, so that E is moved by what
    the picture and the rate need, not towards latents that are easy to hit.
    """

    also_gives = frozenset({"x_hat"})

    def forward(self, model, variables, images, samples):
        latent = model.apply(variables, images, True, method="encode")
        out = self._transform_coding(model, variables, images, samples, latent)
        x_hat = model.apply(variables, out.latent_hat, True, method="generate")
        return out.replace(x_hat=x_hat.astype(jnp.float32))


def _codes(vq: Any, vectors: jax.Array, size: int) -> Codes:
    vectors = jax.lax.stop_gradient(vectors).astype(jnp.float32)
    vectors = vectors.reshape(vectors.shape[0], -1, vectors.shape[-1])
    sums = jax.ops.segment_sum(vectors.reshape(-1, vectors.shape[-1]), vq.indices.reshape(-1), size)
    return Codes(code_share(vq.indices, size), sums / vq.indices.size, vectors, vq.loss)


def codebook_gradient(config: Config) -> Callable[[jax.Array, Any], jax.Array]:
    """(z, what the quantiser gave for it) -> its rows, with the config's gradient to z.

    Raises `ConfigError` where there is no such gradient.
    """
    gradient = named.find(config.codebook.gradient, codebooks.GRADIENTS, "codebook.gradient")
    if gradient is codebooks.straight_through:  # which it has
        return lambda z, found: found.quantized
    return lambda z, found: gradient(z, jax.lax.stop_gradient(found.quantized))
