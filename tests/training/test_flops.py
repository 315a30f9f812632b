"""The operations of a train step, counted layer by layer: nothing is computed twice.

What a layer's products take follows from its kernel and its output. A gradient takes as much again
for the layer's input, and again for its parameters; everything else is small beside the products.
"""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from glc_jax.metrics.features import vgg16
from glc_jax.models import blocks, layers
from glc_jax.models.code_predictor import TransformerLayer
from glc_jax.models.discriminator import PatchDiscriminator
from glc_jax.training import benchmark
from tests.training import small

CROP, BATCH = 64, 2
LATENT_CHANNELS = 48
WIDE = {  # channels enough for products to be what counts
    "model__latent_channels": LATENT_CHANNELS,
    "model__vqvae__base_channels": 32,
    "model__vqvae__norm_groups": 4,
    "model__code_predictor__positions": (CROP // 4) ** 2,
    "model__code_predictor__width": 64,
    "model__code_predictor__mlp_width": 128,
}
FORWARD, TO_INPUT, TRAINED = 1, 2, 3  # times the products of a forward pass


def config(stage: int) -> dict:
    adversarial = 0.0 if stage == 2 else 0.5
    return small.config(
        stage,
        **WIDE,
        data__crop=CROP,
        eval__crop=CROP,
        batch=BATCH,
        losses__lpips=1.0,
        lpips_network="vgg",
        adversarial__weight=adversarial,
        adversarial__adaptive=False,
        adversarial__base_channels=32,
    )


def products_of(function, *shapes) -> collections.Counter:
    """2 x multiplications of every layer that `function` calls, by the first part of its path."""
    found: collections.Counter = collections.Counter()

    def count(call, arguments, keywords, context):
        out = call(*arguments, **keywords)
        if context.method_name == "__call__":
            part = context.module.path[0] if context.module.path else ""
            found[part if part != "vqvae" else context.module.path[1]] += _products(
                context.module, arguments[0], out
            )
        return out

    with nn.intercept_methods(count):
        jax.eval_shape(function, *shapes)
    return found


def _products(module: nn.Module, x: jax.Array, out: jax.Array) -> float:
    if isinstance(module, layers.DoubledConv3x3):  # four taps of nine for each of its outputs
        return 2 * out.size * 4 * x.shape[-1]
    if isinstance(module, layers.DepthwiseConv3x3):
        return 2 * out.size * 9
    if isinstance(module, nn.Conv):
        return 2 * out.size * x.shape[-1] * module.kernel_size[0] * module.kernel_size[1]
    if isinstance(module, nn.Dense):
        return 2 * out.size * x.shape[-1]
    if isinstance(module, blocks.AttentionBlock):
        positions = x.shape[1] * x.shape[2]
        return 2 * 2 * x.size * positions
    if isinstance(module, TransformerLayer):
        return 2 * 2 * x.size * x.shape[1]
    return 0


def vgg_products() -> float:
    """Of one pass of both pictures' batch through VGG16."""
    total, channels = 0, 3
    for level, (wide, block) in enumerate(zip(vgg16.CHANNELS, vgg16.BLOCKS, strict=True)):
        for _ in block:
            total += 2 * 9 * channels * wide * (CROP >> level) ** 2
            channels = wide
    return BATCH * total


def expected(stage: int, parts) -> float:
    model, params = parts.model, {"params": parts.abstract_parameters}
    images = jax.ShapeDtypeStruct((BATCH, CROP, CROP, 3), jnp.float32)
    side = CROP // 4
    latent = jax.ShapeDtypeStruct((BATCH, side, side, LATENT_CHANNELS), jnp.float32)
    rate = jax.ShapeDtypeStruct((BATCH,), jnp.float32)

    def of(method, *arguments, **fields):
        apply = functools.partial(model.apply, method=method, **fields)
        return products_of(apply, params, *arguments).total()

    encoder, generator = of("encode", images, train=True), of("generate", latent, train=True)
    coding, predictor = of("code", latent, rate), of("predict_codes", latent)
    codebook = 2 * BATCH * side**2 * LATENT_CHANNELS * parts.config.model["codebook_size"]
    # The generator's gradient through it; real and made pictures with its own.
    network = PatchDiscriminator(base_channels=32, layers=1)
    start = jax.eval_shape(network.init, jax.random.key(0), images)
    judge = functools.partial(network.apply, train=True, mutable=["batch_stats"])
    critic = (TO_INPUT + 2 * TRAINED) * products_of(judge, start, images).total()
    picture = vgg_products() * (FORWARD + TO_INPUT) + critic
    if stage == 1:
        return TRAINED * (encoder + generator) + codebook + picture
    if stage == 2:
        return FORWARD * encoder + TRAINED * (coding + predictor) + codebook
    again = TRAINED * (encoder + predictor)  # the codes of what the generator drew
    everything = TRAINED * (encoder + coding + generator + predictor)
    return everything + again + codebook + picture


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_step_computes_what_its_layers_need(stage):
    parts = small.parts(config(stage))
    counted = benchmark.measure_training(parts, None).flops
    assert counted == pytest.approx(expected(stage, parts), rel=0.1)
