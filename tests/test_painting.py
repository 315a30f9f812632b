"""Decoding in a style, with a small untrained model and stylist."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import glc_jax
from glc_jax import companions, painting, weights
from glc_jax.errors import InputError, WeightsError
from glc_jax.models import colours, manner, stylist
from glc_jax.models.pixels import to_model_range
from tests import small_model

STYLE = small_model.picture(70, 90, 5)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """The model's file and a stylist's of it."""
    folder = tmp_path_factory.mktemp("weights")
    small_model.write_weights(folder / "small.safetensors")
    base = weights.load(folder / "small.safetensors")
    first = jax.jit(stylist.first_parameters)(base.tree["params"], jax.random.key(0))
    drawn = jax.tree.map(np.asarray, first)
    companions.save(folder / "style.safetensors", "stylist", "small-style", drawn, base, {})
    return folder / "small.safetensors", folder / "style.safetensors"


@pytest.fixture(scope="module")
def codec(paths):
    return glc_jax.load(paths[0], stylist=paths[1])


@pytest.fixture(scope="module")
def data(codec):
    return codec.compress(small_model.picture(100, 60), rate=1.5)


@pytest.fixture(scope="module")
def painted(codec, data):
    return codec.decompress(data, style=STYLE)


def test_no_strength_is_the_ordinary_picture(codec, data):
    ordinary = codec.decompress(data)
    np.testing.assert_array_equal(codec.decompress(data, style=STYLE, strength=0), ordinary)
    np.testing.assert_array_equal(codec.decompress(data, strength=0.5), ordinary)


def test_strength_leads_from_the_ordinary_picture_to_the_painted_one(codec, data, painted):
    ordinary = codec.decompress(data).astype(int)
    assert painted.dtype == np.uint8
    assert painted.shape == ordinary.shape
    steps = [codec.decompress(data, style=STYLE, strength=s) for s in (1e-4, 0.5)]
    away = [np.abs(one - ordinary).mean() for one in (*steps, painted)]
    assert away[0] < 0.5 < away[1] < away[2]


def test_another_style_paints_another_picture(codec, data, painted):
    other = codec.decompress(data, style=255 - STYLE)
    assert np.abs(other.astype(int) - painted).mean() > 1
    np.testing.assert_array_equal(codec.decompress(data, style=STYLE), painted)


def test_a_style_is_whatever_is_a_picture(codec, data, painted, tmp_path):
    path = tmp_path / "style.png"
    Image.fromarray(STYLE).save(path)
    np.testing.assert_array_equal(codec.decompress(data, style=path), painted)
    np.testing.assert_array_equal(codec.decompress(data, style=Image.open(path)), painted)
    with pytest.raises(InputError):
        codec.decompress(data, style=STYLE[..., 0])
    with pytest.raises(InputError):
        codec.decompress(data, style=tmp_path / "none.png")


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "much", True, None])
def test_a_strength_is_a_number_from_0_to_1(codec, data, strength):
    with pytest.raises(InputError, match="strength"):
        codec.decompress(data, style=STYLE, strength=strength)
    with pytest.raises(InputError, match="strength"):
        codec.stylise(STYLE, STYLE, strength=strength)


def test_both_ends_in_memory_are_the_two_ends(codec):
    image = small_model.picture(100, 60)
    data = codec.compress(image, rate=codec.highest_rate)
    expected = codec.decompress(data, style=STYLE, strength=0.7)
    np.testing.assert_array_equal(codec.stylise(image, STYLE, 0.7), expected)
    low = codec.stylise(image, STYLE, 0.7, rate=0)
    assert np.any(low != expected)


def test_previews_are_painted_as_well(codec, data):
    painted = codec.decompress(data, preview=True, style=STYLE)
    assert painted.shape == (100, 60, 3)
    assert np.any(painted != codec.decompress(data, preview=True))


@pytest.mark.slow
def test_tile_by_tile_it_is_the_same_picture(paths, data, painted, monkeypatch):
    """As a picture that is too large to be drawn at once."""
    tiled = glc_jax.load(paths[0], stylist=paths[1])
    monkeypatch.setattr("glc_jax.autoencoder.AT_ONCE", 2**18)
    found = tiled.decompress(data, style=STYLE)
    assert np.abs(found.astype(int) - painted).max() <= 1


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((70, 90), (70, 90)),
        ((512, 512), (512, 512)),
        ((4096, 1024), (1024, 256)),
        ((1, 1), (64, 64)),
        ((30, 40), (64, 85)),
        ((5000, 2), (1024, 64)),
        ((2, 60000), (64, 1024)),
    ],
)
def test_styles_are_looked_at_at_a_bounded_size(shape, expected):
    found = painting.sized(np.full((*shape, 3), 7, np.uint8))
    assert found.shape == (*expected, 3)
    np.testing.assert_array_equal(found, 7)


def test_the_style_decides_norms_and_colours_of_what_draws(monkeypatch):
    """With a G of a norm and a last layer, whose drawing is beyond black and white."""
    last = {"kernel": jnp.eye(3)[None, None], "bias": jnp.zeros(3)}
    params = {"norm_out": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}, "conv_out": last}
    own = {"network": {}, "generator": {"norm_out": {"scale": 2 * jnp.ones(3)}}}
    content, other = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
    picture, asked = 3 * content, []

    def drawn(network, generator, latent, wanted):
        asked.append((generator["norm_out"]["scale"][0], latent, wanted))
        norm = manner.Norm(jnp.full((1, 3), 5.0), jnp.full((1, 3), 6.0))
        return manner.Drawn(picture, {"norm_out": norm})

    network = types.SimpleNamespace(apply=lambda variables, content, style: content + 1)
    monkeypatch.setattr(painting, "Stylist", lambda: network)
    monkeypatch.setattr(painting.manner, "drawn", drawn)
    monkeypatch.setattr(painting.manner, "seen", lambda network, *of: of)
    style = painting.style_of(other, STYLE, 1.0)
    found = painting.paint.__wrapped__(None, params, own, content, style)
    ((scale, drawn_latent, (of_params, of_latent)),) = asked
    assert scale == 2  # the stylist's own G draws
    assert of_params is params  # in the manner in which the model's G draws the style
    assert of_latent is other
    np.testing.assert_allclose(drawn_latent, content + 1, rtol=1e-6)
    np.testing.assert_allclose(found.latent, content + 1, rtol=1e-6)
    np.testing.assert_array_equal(found.generator["norm_out"]["scale"], 5)
    np.testing.assert_array_equal(found.generator["norm_out"]["bias"], 6)
    given = colours.moments(jnp.clip(picture, -1, 1))
    affine = colours.mapping(given, colours.moments(to_model_range(STYLE[None])))
    np.testing.assert_allclose(found.generator["conv_out"]["bias"], affine.offset[0], rtol=1e-4)
    np.testing.assert_allclose(
        found.generator["conv_out"]["kernel"][0, 0], affine.matrix[0], rtol=1e-4, atol=1e-6
    )


def test_weights_without_a_stylist_say_so(paths, data):
    plain = glc_jax.load(paths[0])
    with pytest.raises(WeightsError, match="stylist"):
        plain.decompress(data, style=STYLE)
    plain.decompress(data)


def test_a_stylist_of_other_weights_is_refused(paths, data):
    others = dataclasses.replace(weights.load(paths[0]), fingerprint=bytes(8))
    with pytest.raises(WeightsError, match="stylist of the weights"):
        companions.load(companions.STYLIST, others, paths[1])
    swapped = glc_jax.load(paths[0], stylist=paths[0])
    with pytest.raises(WeightsError, match="holds a model, not a stylist"):
        swapped.decompress(data, style=STYLE)
