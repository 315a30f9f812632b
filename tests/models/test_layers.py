"""The shared blocks against their definitions, written out another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.models import layers


@pytest.fixture
def x():
    return jax.random.normal(jax.random.key(0), (2, 6, 5, 8))


def test_depthwise_convolution_equals_grouped_convolution(x):
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 8))
    expected = jax.lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=8,
    )
    np.testing.assert_allclose(layers.depthwise_conv3x3(x, kernel), expected, atol=1e-5)


def test_pixel_shuffle_places_channels_as_the_checkpoint_expects(x):
    shuffled = layers.pixel_shuffle(x)
    assert shuffled.shape == (2, 12, 10, 2)
    for channel in range(2):
        for dy in range(2):
            for dx in range(2):
                expected = x[..., channel * 4 + 2 * dy + dx]
                np.testing.assert_array_equal(shuffled[:, dy::2, dx::2, channel], expected)


def test_gated_feed_forward_is_its_formula(x):
    module = layers.GatedFeedForward()
    variables = module.init(jax.random.key(1), x)
    p = variables["params"]
    hidden = x @ p["conv_in"]["kernel"] + p["conv_in"]["bias"]
    a, b = hidden[..., :16], hidden[..., 16:]
    gated = a * jnp.where(b > 0, b, 0.1 * b)
    expected = x + gated @ p["conv_out"]["kernel"] + p["conv_out"]["bias"]
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("features", [8, 12])
def test_depth_conv_adapts_its_input_only_where_the_channels_change(x, features):
    variables = layers.DepthConv(features).init(jax.random.key(1), x)
    assert ("adaptor" in variables["params"]) == (features != 8)


def test_residual_upsample_doubles_the_size(x):
    module = layers.ResidualUpsample(8)
    variables = module.init(jax.random.key(1), x)
    assert module.apply(variables, x).shape == (2, 12, 10, 8)


@pytest.mark.parametrize("shape", [(2, 6, 8, 8), (1, 1, 1, 8), (1, 5, 3, 8)])
def test_doubled_convolution_equals_doubling_then_convolution(shape):
    x = jax.random.normal(jax.random.key(3), shape)
    kernel = jax.random.normal(jax.random.key(4), (3, 3, 8, 16))
    doubled = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    expected = jax.lax.conv_general_dilated(
        doubled, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(layers.doubled_conv3x3(x, kernel), expected, atol=1e-4)
