"""The forward pass of each of GLC's three training stages, with the losses it gives rise to.

Stage I trains the VQ-VAE, stage II the transform coding within its frozen latent space, stage III
everything together (GLC, arXiv 2512.20194, section 3.4).

Each stage is a function (model, variables, config, images, samples) -> Forward, where images are
float32 [B, H, W, 3] in [-1, 1]. Loss values are means over the batch, so that equal parts of a
batch can be averaged.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from glc_jax.entropy import quantize
from glc_jax.losses import code_prediction
from glc_jax.models.glc import GLC
from glc_jax.training.codebook import code_share

_TURNS_PERIOD = 1000  # steps after which the turns begin anew: float32 counts them exactly

LATENT_CODEBOOK = "vqvae/quantizer/codebook"
HYPER_CODEBOOK = "hyperprior/quantizer/codebook"


class Samples(NamedTuple):
    """What is random about each sample of a batch, whatever device it is on.

    rate: float32 [B], the rate point. keys: [B] random keys. quantised: bool [B], whether stage
    I's generator sees the sample's latent through the codebook. codebook_ready: bool scalar,
    false until k-means has set the codebook; until then nothing is quantised. step: int scalar.
    """

    rate: jax.Array
    keys: jax.Array
    quantised: jax.Array
    codebook_ready: jax.Array
    step: jax.Array


@flax.struct.dataclass
class Codes:
    """How a batch used one codebook.

    share: [K], each code's share of all positions. vectors: [B, h * w, C], what was quantised.
    """

    share: jax.Array
    vectors: jax.Array


@flax.struct.dataclass
class Forward:
    """x_hat [B, H, W, 3] (None in stage II); losses and metrics by name, scalars; Codes by path."""

    x_hat: jax.Array | None
    losses: dict[str, jax.Array]
    metrics: dict[str, jax.Array]
    codes: dict[str, Codes]


StageFunction = Callable[[GLC, Any, Mapping[str, Any], jax.Array, Samples], Forward]


def draw_samples(
    config: Mapping[str, Any], step: jax.Array, rng: jax.Array, slots: jax.Array
) -> Samples:
    """The samples at `slots` [B] int32 of step `step`, whose key is `rng`.

    Each depends on its own slot alone, so that a batch may be divided in any way. The rate
    points take turns over the slots of all steps, so that a batch may be smaller than they are
    many, and so do samples seen through the codebook, evenly at `codebook.quantised_share`.
    """
    keys = jax.vmap(lambda slot: jax.random.fold_in(rng, slot))(slots)
    turn = step % _TURNS_PERIOD * config["batch"] + slots
    rate = turn % config["model"]["rate_points"]
    share = config["codebook"]["quantised_share"]
    quantised = jnp.floor((turn + 1) * share) > jnp.floor(turn * share)
    ready = jnp.asarray(step >= config["codebook"]["kmeans_step"])
    return Samples(rate.astype(jnp.float32), keys, quantised & ready, ready, jnp.asarray(step))


def stage_1(
    model: GLC, variables: Any, config: Mapping[str, Any], images: jax.Array, samples: Samples
) -> Forward:
    """E, codebook, G. Loss: `codebook`; the pixel losses follow from x_hat."""
    latent = model.apply(variables, images, True, method="encode").astype(jnp.float32)
    vq = model.apply(variables, latent, method="vector_quantize")
    seen = jnp.where(samples.quantised[:, None, None, None], vq.quantized, latent)
    x_hat = model.apply(variables, seen, True, method="generate")
    codes = {LATENT_CODEBOOK: _codes(vq.indices, latent, config["model"]["codebook_size"])}
    losses = {"codebook": vq.loss * samples.codebook_ready}
    return Forward(x_hat.astype(jnp.float32), losses, {}, codes)


def stage_2(
    model: GLC, variables: Any, config: Mapping[str, Any], images: jax.Array, samples: Samples
) -> Forward:
    """Transform coding of E's frozen latents.

    Losses: `rate` (bits of y per pixel, each sample's times its rate point's lambda),
    `hyper_codebook`, `latent` (squared error of l_hat), `code_prediction`.
    """
    latent = jax.lax.stop_gradient(model.apply(variables, images, True, method="encode"))
    return _transform_coding(model, variables, config, images, samples, latent)[0]


def stage_3(
    model: GLC, variables: Any, config: Mapping[str, Any], images: jax.Array, samples: Samples
) -> Forward:
    """Everything at once: stage II's losses, x_hat = G(l_hat), and `pixel_code_prediction`.

    The target of the latent and code losses is E(x) without gradient, so that E is moved by what
    the picture and the rate need, not towards latents that are easy to hit.
    """
    latent = model.apply(variables, images, True, method="encode")
    forward, latent_hat, indices = _transform_coding(
        model, variables, config, images, samples, latent
    )
    x_hat = model.apply(variables, latent_hat, True, method="generate")
    losses = dict(forward.losses)
    if config["losses"]["pixel_code_prediction"]:
        again = model.apply(variables, x_hat, True, method="encode")
        logits = model.apply(variables, again, method="predict_codes_from_pixels")
        losses["pixel_code_prediction"] = jnp.mean(code_prediction.cross_entropy(logits, indices))
    return forward.replace(x_hat=x_hat.astype(jnp.float32), losses=losses)


STAGES: dict[int, StageFunction] = {1: stage_1, 2: stage_2, 3: stage_3}


def codebooks(stage: int) -> tuple[str, ...]:
    """Paths of the codebooks that a stage quantises with and keeps in use."""
    return (LATENT_CODEBOOK,) if stage == 1 else (HYPER_CODEBOOK,)


def _codes(indices: jax.Array, vectors: jax.Array, size: int) -> Codes:
    vectors = jax.lax.stop_gradient(vectors).astype(jnp.float32)
    vectors = vectors.reshape(vectors.shape[0], -1, vectors.shape[-1])
    return Codes(code_share(indices, size), vectors)


def _transform_coding(
    model: GLC,
    variables: Any,
    config: Mapping[str, Any],
    images: jax.Array,
    samples: Samples,
    latent: jax.Array,
) -> tuple[Forward, jax.Array, jax.Array]:
    """The forward pass from l to l_hat: (Forward without x_hat, l_hat, code indices of E(x)).

    l_hat and the rate come from what the quantiser gives for each. The steps of the context model
    share a sample's noise, on disjoint elements.
    """
    ready = samples.codebook_ready
    quantiser = quantize.from_config(config["quantizer"])
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
    latent_hat = code.latent_hat.astype(jnp.float32)
    # Symbols whose probabilities do not depend on parameters cost the same whatever is trained.
    groups = [group for group in model.entropy_model().groups if group.family.parameters]
    bits = sum(code.coded[group.latent].bits[group.name] for group in groups)
    bpp = bits / (images.shape[1] * images.shape[2])
    lambdas = jnp.asarray(config["lambdas"], jnp.float32)[samples.rate.astype(jnp.int32)]
    vq = code.coded["z"].quantised

    target = jax.lax.stop_gradient(latent).astype(jnp.float32)
    indices = model.apply(variables, target, method="vector_quantize").indices
    losses = {
        "rate": jnp.mean(lambdas * bpp),
        "hyper_codebook": vq.loss * samples.codebook_ready,
        "latent": jnp.mean(code_prediction.latent_mse(latent_hat, target)),
    }
    if config["losses"]["code_prediction"]:
        logits = model.apply(variables, latent_hat, method="predict_codes")
        losses["code_prediction"] = jnp.mean(code_prediction.cross_entropy(logits, indices))
    points = config["model"]["rate_points"]
    metrics = {  # over steps enough, every rate point has the same share of the samples
        f"bpp_y_{point}": points * jnp.mean(bpp * (samples.rate == point))
        for point in range(points)
    }
    codes = {
        HYPER_CODEBOOK: _codes(
            vq.indices, code.targets["z"], config["model"]["hyper_codebook_size"]
        )
    }
    return Forward(None, losses, metrics, codes), latent_hat, indices
