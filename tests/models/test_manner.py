"""Drawing in another picture's manner: its statistics behind every norm, and nothing else moved."""

import jax
import numpy as np
import pytest

from glc_jax import weights
from glc_jax.models import glc, manner
from tests import small_model

NETWORK = glc.build(small_model.MODEL).vqvae.generator


def trained() -> weights.Tree:
    """G's parameters, its norms' with scales of both signs and biases."""
    rng, flat = np.random.default_rng(0), {}
    for path, leaf in weights.flatten(small_model.parameters()["vqvae"]["generator"]):
        size = rng.uniform(0.5, 1.5, leaf.shape) * rng.choice([-1, 1], leaf.shape)
        flat[path] = size.astype(np.float32) if "norm" in path.split("/")[-2] else leaf
    return weights.unflatten(flat)


PARAMS = trained()
CONTENT, STYLE = (
    scale * jax.random.normal(jax.random.key(scale), (1, 6, width, small_model.CHANNELS)) + scale
    for scale, width in ((1, 10), (3, 5))
)

seen = jax.jit(lambda latent: manner.seen(NETWORK, PARAMS, latent))
drawn = jax.jit(lambda latent, wanted: manner.drawn(NETWORK, PARAMS, latent, wanted))


def plain(params, latent):
    return NETWORK.apply({"params": params}, latent, True)


@pytest.mark.slow
def test_in_its_own_manner_a_picture_is_as_it_was():
    found = drawn(CONTENT, seen(CONTENT))
    np.testing.assert_allclose(found.picture, plain(PARAMS, CONTENT), rtol=1e-3, atol=1e-4)
    flat = dict(weights.flatten(PARAMS))
    assert {f"{path}/{name}" for path in found.norms for name in ("scale", "bias")} == {
        path for path in flat if "norm" in path.split("/")[-2]
    }
    for path, norm in found.norms.items():
        np.testing.assert_allclose(norm.scale[0], flat[f"{path}/scale"], rtol=1e-3)
        np.testing.assert_allclose(norm.bias[0], flat[f"{path}/bias"], atol=1e-3)


def test_in_anothers_manner_it_has_the_others_statistics_behind_every_norm():
    wanted = seen(STYLE)
    found = drawn(CONTENT, wanted)
    assert np.abs(found.picture - plain(PARAMS, CONTENT)).mean() > 0.01
    params = manner.with_norms(PARAMS, found.norms)
    again = jax.jit(lambda params: manner.seen(NETWORK, params, CONTENT))(params)
    assert again.keys() == wanted.keys()
    for path, statistics in wanted.items():
        np.testing.assert_allclose(again[path].mean, statistics.mean, rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(again[path].deviation, statistics.deviation, rtol=1e-2)


def test_the_norms_that_drew_it_draw_it_again():
    found = drawn(CONTENT, seen(STYLE))
    signs = dict(weights.flatten(PARAMS))
    for path, norm in found.norms.items():  # a channel is not turned over
        np.testing.assert_array_equal(np.sign(norm.scale[0]), np.sign(signs[f"{path}/scale"]))
    again = plain(manner.with_norms(PARAMS, found.norms), CONTENT)
    np.testing.assert_allclose(again, found.picture, rtol=1e-3, atol=1e-3)
