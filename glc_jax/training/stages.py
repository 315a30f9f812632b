"""GLC's three training stages: what passes forward through the model, and what is held out.

Stage I trains the VQ-VAE, stage II the transform coding within its frozen latent space, stage III
everything together (GLC, arXiv 2512.20194, section 3.4). A config names a stage by "stage1",
"stage2" or "stage3", or one of someone's own as "package.module:Class"; see `Stage`.
"""

from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from glc_jax.entropy import quantize
from glc_jax.models.glc import GLC
from glc_jax.training import named
from glc_jax.training.codebook import code_share
from glc_jax.training.config import Config
from glc_jax.training.evaluation import Reconstructions, through_codebook, through_rates
from glc_jax.training.samples import Samples

LATENT_CODEBOOK = "vqvae/quantizer/codebook"
HYPER_CODEBOOK = "hyperprior/quantizer/codebook"


@flax.struct.dataclass
class Codes:
    """How a batch used one codebook.

    share: [K], each code's share of all positions. vectors: [B, h * w, C], what was quantised.
    loss: scalar, the mean squared distance to the codes.
    """

    share: jax.Array
    vectors: jax.Array
    loss: jax.Array


@flax.struct.dataclass
class Forward:
    """What a forward pass gives, as far as the stage has it.

    x_hat: [B, H, W, 3]. latent: [B, h, w, C], E(x) without gradient. indices: [B, h, w], the codes
    nearest to it. latent_hat: [B, h, w, C]. bpp: [B], bits of y per pixel. codes: by the
    codebook's path. metrics: scalars by name.
    """

    codes: dict[str, Codes]
    x_hat: jax.Array | None = None
    latent: jax.Array | None = None
    indices: jax.Array | None = None
    latent_hat: jax.Array | None = None
    bpp: jax.Array | None = None
    metrics: dict[str, jax.Array] = flax.struct.field(default_factory=dict)


class Stage(Protocol):
    """A stage of training, made from the run's config.

    gives: the fields of `Forward` that it sets, and the paths of its codebooks: a loss is in use
    where the stage gives what it needs. codebooks: paths of those that it quantises with and keeps
    in use. Values are means over the batch or have one row a sample, so that equal parts of a
    batch can be averaged.
    """

    gives: frozenset[str]
    codebooks: tuple[str, ...]

    def __init__(self, config: Config): ...

    def forward(self, model: GLC, variables: Any, images: jax.Array, samples: Samples) -> Forward:
        """images: float32 [B, H, W, 3] in [-1, 1]."""
        ...

    def reconstruct(self, model: GLC, variables: Any, images: jax.Array) -> Reconstructions:
        """Held-out uint8 pictures [B, H, W, 3]: each way to x_hat by its name, with its bpp."""
        ...


class VQVAEStage:
    """Stage I: E, codebook, G."""

    codebooks = (LATENT_CODEBOOK,)
    gives = frozenset({"x_hat", "latent", *codebooks})

    def __init__(self, config: Config):
        self.codes = config.model["codebook_size"]

    def forward(self, model, variables, images, samples):
        latent = model.apply(variables, images, True, method="encode").astype(jnp.float32)
        vq = model.apply(variables, latent, method="vector_quantize")
        seen = jnp.where(samples.quantised[:, None, None, None], vq.quantized, latent)
        x_hat = model.apply(variables, seen, True, method="generate").astype(jnp.float32)
        codes = {LATENT_CODEBOOK: _codes(vq, latent, self.codes)}
        return Forward(codes, x_hat=x_hat, latent=jax.lax.stop_gradient(latent))

    def reconstruct(self, model, variables, images):
        return through_codebook(model, variables, images)


class TransformStage:
    """Stage II: transform coding of E's frozen latents."""

    codebooks = (HYPER_CODEBOOK,)
    gives = frozenset({"latent", "indices", "latent_hat", "bpp", *codebooks})

    def __init__(self, config: Config):
        quantize.from_config(config.quantizer)
        self.config = config

    def forward(self, model, variables, images, samples):
        latent = jax.lax.stop_gradient(model.apply(variables, images, True, method="encode"))
        return _transform_coding(model, variables, self.config, images, samples, latent)

    def reconstruct(self, model, variables, images):
        return through_rates(model, variables, self.config.model, images)


class JointStage(TransformStage):
    """Stage III: everything at once, x_hat = G(l_hat).

    The target of the latent and code losses is E(x) without gradient, so that E is moved by what
    the picture and the rate need, not towards latents that are easy to hit.
    """

    gives = TransformStage.gives | {"x_hat"}

    def forward(self, model, variables, images, samples):
        latent = model.apply(variables, images, True, method="encode")
        out = _transform_coding(model, variables, self.config, images, samples, latent)
        x_hat = model.apply(variables, out.latent_hat, True, method="generate")
        return out.replace(x_hat=x_hat.astype(jnp.float32))


STAGES: dict[str, type] = {"stage1": VQVAEStage, "stage2": TransformStage, "stage3": JointStage}


def open_stage(config: Config) -> Stage:
    """The stage that the config names; raises `ConfigError` where there is none."""
    return named.find(config.stage, STAGES, "stage")(config)


def _codes(vq: Any, vectors: jax.Array, size: int) -> Codes:
    vectors = jax.lax.stop_gradient(vectors).astype(jnp.float32)
    vectors = vectors.reshape(vectors.shape[0], -1, vectors.shape[-1])
    return Codes(code_share(vq.indices, size), vectors, vq.loss)


def _transform_coding(
    model: GLC,
    variables: Any,
    config: Config,
    images: jax.Array,
    samples: Samples,
    latent: jax.Array,
) -> Forward:
    """The forward pass from l to l_hat: all but x_hat.

    l_hat and the rate come from what the quantiser gives for each. The steps of the context model
    share a sample's noise, on disjoint elements.
    """
    ready = samples.codebook_ready
    quantiser = quantize.from_config(config.quantizer)
    moment = quantize.Moment(samples.step, samples.keys)
    code = model.apply(
        variables,
        latent.astype(jnp.float32),
        samples.rate,
        lambda residuals: quantiser(residuals, moment),
        vectors=lambda vq, z: jnp.where(ready, vq.quantized, z),
        training=True,
        method="code",
    )
    # Symbols whose probabilities do not depend on parameters cost the same whatever is trained.
    groups = [group for group in model.entropy_model().groups if group.family.parameters]
    bits = sum(code.coded[group.latent].bits[group.name] for group in groups)
    bpp = bits / (images.shape[1] * images.shape[2])

    target = jax.lax.stop_gradient(latent).astype(jnp.float32)
    indices = model.apply(variables, target, method="vector_quantize").indices
    points = config.model["rate_points"]
    metrics = {  # over steps enough, every rate point has the same share of the samples
        f"bpp_y_{point}": points * jnp.mean(bpp * (samples.rate == point))
        for point in range(points)
    }
    z, size = code.coded["z"].quantised, config.model["hyper_codebook_size"]
    return Forward(
        {HYPER_CODEBOOK: _codes(z, code.targets["z"], size)},
        latent=target,
        indices=indices,
        latent_hat=code.latent_hat.astype(jnp.float32),
        bpp=bpp,
        metrics=metrics,
    )
