"""Style and content distances: what they are by hand, what they see, and where gradients go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.losses import style
from glc_jax.metrics import lpips_weights

_style = jax.jit(style.style)
_grams = jax.jit(style.grams)


@pytest.fixture(scope="module")
def vgg():
    return lpips_weights.load("vgg")


@pytest.fixture(scope="module")
def pictures():
    return jax.random.uniform(jax.random.key(0), (2, 1, 32, 32, 3), minval=-1)


def test_gram_matrices_are_means_of_products_of_features(vgg, pictures):
    x = pictures[0]
    found = _grams(vgg, x)
    assert [gram.shape[1] for gram in found] == [4, 64, 128, 256, 512]
    colours = np.concatenate([np.asarray(x[0]).reshape(-1, 3), np.ones((32 * 32, 1))], axis=1)
    np.testing.assert_allclose(found[0][0], colours.T @ colours / 1024, rtol=1e-4, atol=1e-5)
    for layer, gram in zip(jax.jit(style.features)(vgg, x)[:4], found[1:], strict=True):
        flat = np.asarray(layer, np.float64).reshape(-1, layer.shape[-1])
        np.testing.assert_allclose(gram[0], flat.T @ flat / len(flat), rtol=1e-3, atol=1e-3)


def test_style_is_the_mean_share_by_which_grams_differ(vgg, pictures):
    x, y = pictures
    expected = []
    for a, b in zip(_grams(vgg, x), _grams(vgg, y), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        expected.append(((a - b) ** 2).sum() / ((a**2).sum() + (b**2).sum()))
    np.testing.assert_allclose(_style(vgg, x, y), np.mean(expected), rtol=1e-3)


def test_style_is_the_same_wherever_things_are_and_content_is_not(vgg):
    x = jnp.tile(jax.random.uniform(jax.random.key(1), (1, 16, 16, 3), minval=-1), (1, 6, 6, 1))
    moved = jnp.roll(x, 8, axis=2)
    other = jnp.repeat(jnp.repeat(x[:, ::8, ::8], 8, 1), 8, 2)
    larger = jnp.tile(x, (1, 2, 1, 1))
    away = _style(vgg, x, other)
    assert _style(vgg, moved, x) < 0.05 * away
    assert _style(vgg, larger, x) < 0.05 * away
    content = jax.jit(style.content)
    assert content(vgg, x, x) == 0
    assert content(vgg, moved, x) > 0.1


def test_gradients_go_to_the_first_picture_and_not_through_the_denominator(monkeypatch):
    """Of features that are quickly had."""

    def features(params, x):
        return [x ** (number + 1) for number in range(5)]

    monkeypatch.setattr(style, "features", features)
    x, y = jax.random.uniform(jax.random.key(0), (2, 1, 2, 3, 3), minval=0.1)
    for function in (style.style, style.content):
        to_x, to_y = jax.jit(jax.grad(lambda x, y, f=function: f({}, x, y).sum(), (0, 1)))(x, y)
        assert jnp.abs(to_x).max() > 0
        np.testing.assert_array_equal(to_y, 0)
    a, b = x**3, y**3  # of the third layer
    whole = jnp.sum(a**2) + jnp.sum(b**2)
    np.testing.assert_allclose(style.content({}, x, y)[0], jnp.sum((a - b) ** 2) / whole, rtol=1e-4)
    expected = 2 * (a - b) * 3 * x**2 / whole
    np.testing.assert_allclose(to_x, expected, rtol=1e-3, atol=1e-6)


def test_features_are_those_of_pictures_normalised_as_vgg_was_trained(monkeypatch):
    monkeypatch.setattr(style.vgg16, "features", lambda params, x: x)
    x = jnp.array([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    expected = (np.array([0, 0.5, 1]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(style.features({"features": {}}, x)[0, 0, 0], expected, atol=0.03)


@pytest.mark.slow
def test_only_the_first_picture_gets_a_gradient(vgg, pictures):
    def both(x, y):
        return (style.style(vgg, x, y) + style.content(vgg, x, y)).sum()

    to_x, to_y = jax.jit(jax.grad(both, (0, 1)))(*pictures)
    assert jnp.abs(to_x).max() > 0
    np.testing.assert_array_equal(to_y, 0)
