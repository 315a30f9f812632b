"""The stylist: AdaIN where attention is even, any two sizes, and G between its own and another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax import weights
from glc_jax.models import colours, glc, stylist
from tests import small_model

CONTENT = jax.random.normal(jax.random.key(0), (1, 6, 10, small_model.CHANNELS))
STYLE = 2 + 3 * jax.random.normal(jax.random.key(1), (1, 5, 4, small_model.CHANNELS))


@functools.cache
def parts() -> tuple:
    generator = small_model.parameters()["vqvae"]["generator"]
    params = {"vqvae": small_model.parameters()["vqvae"]}
    return generator, jax.jit(stylist.first_parameters)(params, jax.random.key(2))


def attend(params, content, style):
    return stylist.StyleAttention(small_model.CHANNELS).apply({"params": params}, content, style)


def test_even_attention_gives_the_styles_own_mean_and_deviation():
    _, own = parts()
    even = jax.tree.map(jnp.zeros_like, own["network"]["attention"])
    mean, deviation = attend(even, CONTENT, STYLE)
    assert mean.shape == deviation.shape == CONTENT.shape
    np.testing.assert_allclose(mean[0, 3, 3], STYLE.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(deviation[0, 3, 3], STYLE.std((0, 1, 2)), rtol=1e-4)


def test_attention_in_pieces_is_attention_at_once(monkeypatch):
    _, own = parts()
    whole = attend(own["network"]["attention"], CONTENT, STYLE)
    monkeypatch.setattr(stylist, "ROWS", 7)
    pieces = attend(own["network"]["attention"], CONTENT, STYLE)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert np.ptp(np.asarray(whole[0][0, :, :, 0])) > 1e-4  # it is not the same everywhere


def test_any_two_sizes_go_together():
    _, own = parts()
    apply = jax.jit(stylist.Stylist().apply)
    latent = apply({"params": own["network"]}, CONTENT, STYLE)
    assert latent.shape == CONTENT.shape
    other = apply({"params": own["network"]}, CONTENT, STYLE[:, :1, :1])
    assert jnp.abs(other - latent).max() > 0.01


def test_between_two_generators_the_way_is_straight():
    generator, own = parts()
    copy = jax.tree.map(lambda leaf: leaf + 2, own["generator"])
    styled = stylist.own_generator(generator, {"generator": copy})
    for share in (0.0, 0.5, 1.0):
        found = dict(weights.flatten(stylist.between(generator, styled, share)))
        for path, leaf in weights.flatten(generator):
            expected = leaf + 2 * share * (path.split("/")[0] in own["generator"])
            np.testing.assert_allclose(found[path], expected, atol=1e-5)


def test_colours_behind_the_last_layer_are_colours_of_the_picture():
    generator, _ = parts()
    draw = glc.build(small_model.MODEL).vqvae.generator.apply
    plain = draw({"params": generator}, CONTENT)
    wanted = colours.moments(jax.random.uniform(jax.random.key(4), (1, 8, 8, 3)) ** 3)
    affine = colours.mapping(colours.moments(plain), wanted)
    found = draw({"params": stylist.recoloured(generator, affine)}, CONTENT)
    expected = jnp.einsum("bhwc,bcd->bhwd", plain, affine.matrix) + affine.offset
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_copy_has_all_but_the_deepest_level():
    generator, own = parts()
    left = {name for name in generator if name not in own["generator"]}
    deepest = len(small_model.MODEL["vqvae"]["multipliers"]) - 1
    assert {name.split("_")[0] for name in left} == {"latent", "conv", "middle", "level"}
    assert {name for name in left if name.startswith("level")} == {
        name for name in generator if name.startswith(f"level_{deepest}_")
    }
    assert "conv_out" in own["generator"]


def test_before_training_it_goes_half_of_the_way_to_adain():
    """So that training begins with a picture that shows what the content does."""
    _, own = parts()
    latent = stylist.Stylist().apply({"params": own["network"]}, CONTENT, STYLE)
    mean, deviation = attend(own["network"]["attention"], CONTENT, STYLE)
    normed = (CONTENT - CONTENT.mean((0, 1, 2))) / CONTENT.std((0, 1, 2))
    expected = (CONTENT + normed * deviation + mean) / 2
    assert jnp.abs(latent - expected).mean() < 0.2 * jnp.abs(expected - CONTENT).mean()
