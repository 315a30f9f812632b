"""The whole model: sizes of the configs, its faces, and what training-only parts are for."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.models import glc, sizes
from glc_jax.models.discriminator import PatchDiscriminator
from glc_jax.models.transforms import RateScaledTransform, interpolate_rate_scale, rate_scale_init

INFERENCE_LIMIT = 10_000_000


def shapes(name: str) -> dict:
    """Abstract parameters of a config: nothing is allocated."""
    config = importlib.import_module(f"configs.{name}").model_config()
    model = glc.build(config)
    side = sizes.initial_side(config)
    image, rate = np.zeros((1, side, side, 3), np.float32), np.zeros(1, np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image, rate)["params"]


def count(tree: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_natural_config_has_the_official_size():
    params = shapes("natural")
    assert count(params) == 163_988_099
    assert count(params["code_predictor"]) == count(params["pixel_code_predictor"])


def test_the_face_config_works_at_a_thirty_second_with_a_codebook_of_1024():
    config = importlib.import_module("configs.face").model_config()
    assert sizes.downsampling(config) == 32
    assert shapes("face")["vqvae"]["quantizer"]["codebook"].shape[0] == 1024


def test_the_tiny_config_keeps_its_size_limit():
    params = shapes("tiny")
    inference = {k: v for k, v in params.items() if "code_predictor" not in k}
    assert count(inference) <= INFERENCE_LIMIT


def test_rate_rows_are_met_and_interpolated():
    table = jnp.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    rates = jnp.array([0.0, 1.0, 3.0, 2.25, -1.0, 9.0])
    expected = [[1, 10], [2, 20], [8, 80], [5, 50], [1, 10], [8, 80]]
    np.testing.assert_allclose(interpolate_rate_scale(table, rates), expected)


def test_the_rate_scales_what_a_transform_gives():
    """Between its blocks, by the row of the rate: no row is like another."""
    transform = RateScaledTransform(rate_points=3, first_scale=0.5, last_scale=8.0)
    x = jnp.tile(jax.random.normal(jax.random.key(0), (1, 2, 2, 4)), (3, 1, 1, 1))
    found, _ = jax.jit(transform.init_with_output)(jax.random.key(1), x, jnp.arange(3.0))
    for one, other in itertools.pairwise(np.asarray(found)):
        assert np.abs(other - one).max() > 0.1 * np.abs(one).max()


def test_synthesis_begins_as_the_inverse_of_the_analysis():
    model = glc.build(importlib.import_module("configs.tiny").model_config())
    scales = []
    for part in (model.g_a, model.g_s):
        init = rate_scale_init(part.first_scale, part.last_scale)
        scales.append(np.asarray(init(None, (part.rate_points, 2))))
    np.testing.assert_allclose(scales[0] * scales[1], 1, rtol=1e-6)
    assert (np.diff(scales[0], axis=0) > 0).all()  # a higher rate, a larger y


def test_one_rate_point_is_a_constant():
    table = jnp.array([[3.0]])
    np.testing.assert_allclose(interpolate_rate_scale(table, jnp.array([0.0, 0.7])), [[3], [3]])


def test_the_discriminator_has_the_published_layers():
    params = jax.eval_shape(
        PatchDiscriminator().init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32)
    )["params"]
    kernels = {k: v["kernel"].shape for k, v in params.items() if "conv" in k}
    assert kernels == {
        "conv_in": (4, 4, 3, 64),
        "conv_1": (4, 4, 64, 128),
        "conv_2": (4, 4, 128, 256),
        "conv_3": (4, 4, 256, 512),
        "conv_4": (4, 4, 512, 512),
        "conv_out": (4, 4, 512, 1),
    }
    assert "bias" in params["conv_in"]
    assert "bias" not in params["conv_1"]


def test_the_discriminator_trains_on_batch_statistics():
    module = PatchDiscriminator(base_channels=4)
    x = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    variables = jax.jit(module.init)(jax.random.key(1), x)
    frozen = module.apply(variables, x)
    logits, updated = module.apply(variables, x, True, mutable=["batch_stats"])
    assert logits.shape == frozen.shape == (2, 2, 2, 1)
    assert jnp.abs(logits - frozen).max() > 1e-3 * jnp.abs(logits).max()
    before, after = (jax.tree.leaves(v["batch_stats"]) for v in (variables, updated))
    assert all(jnp.abs(a - b).max() > 0 for a, b in zip(before, after, strict=True))
