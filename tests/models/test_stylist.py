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


def test_attention_is_a_softmax_of_how_alike_the_normalised_latents_are():
    _, own = parts()
    params = own["network"]["attention"]
    found = attend(params, CONTENT, STYLE)
    content, style = (
        np.asarray(x, np.float64)[0].reshape(-1, x.shape[-1]) for x in (CONTENT, STYLE)
    )
    q, k = (
        (x - x.mean(0)) / x.std(0) @ np.asarray(params[name]["kernel"])
        for x, name in ((content, "query"), (style, "key"))
    )
    likeness = np.exp(q @ k.T / small_model.CHANNELS**0.5)
    likeness /= likeness.sum(1, keepdims=True)
    mean = likeness @ style
    deviation = np.sqrt(likeness @ style**2 - mean**2)
    for one, other in zip(found, (mean, deviation), strict=True):
        np.testing.assert_allclose(one[0].reshape(other.shape), other, rtol=1e-3, atol=1e-3)


def test_attention_in_pieces_is_attention_at_once(monkeypatch):
    _, own = parts()
    whole = attend(own["network"]["attention"], CONTENT, STYLE)
    monkeypatch.setattr(stylist, "ROWS", 7)
    pieces = attend(own["network"]["attention"], CONTENT, STYLE)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert np.ptp(np.asarray(whole[0][0, :, :, 0])) > 1e-4  # it is not the same everywhere


def test_what_a_style_is_has_its_means_and_deviations():
    """Also of the latent itself, whatever the convolutions make of it: here nothing."""
    _, own = parts()
    params = own["network"]["vector"]
    blind = {**params, "near": jax.tree.map(jnp.zeros_like, params["near"])}
    apply = jax.jit(stylist.StyleVector(256).apply)

    def vector(style):
        return apply({"params": blind}, style)

    found = vector(STYLE)
    mean = STYLE.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(vector(STYLE[:, ::-1]), found, rtol=1e-4, atol=1e-5)
    for other in (STYLE + 1, mean + 2 * (STYLE - mean)):
        assert jnp.abs(vector(other) - found).max() > 1e-3


def test_a_style_scales_and_moves_what_a_block_normalises():
    """A scale of -1 leaves nothing of it, one of 0 all."""
    x, vector = CONTENT[..., :2], jnp.zeros((1, 3))
    block = stylist.StyledBlock()
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, vector)["params"]
    params = small_model.random_parameters(shapes)
    branch = jax.jit(lambda params: block.apply({"params": params}, x, vector) - x)
    assert np.std(branch(params), axis=(0, 1, 2)).min() > 0.01
    bias = params["style_2"]["bias"] + np.array([-1, -1, 0, 0], np.float32)
    nothing = {**params, "style_2": {**params["style_2"], "bias": bias}}
    np.testing.assert_allclose(branch(nothing), 0, atol=1e-6)


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
    last = {**generator["conv_out"], "bias": jnp.array([0.1, -0.2, 0.3])}
    generator = {**generator, "conv_out": last}
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
