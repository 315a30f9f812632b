"""Attention windows and the vector quantiser."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.models import blocks, vqvae


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 4), (11, 8), (3, 9), (10, 13)])
def test_windows_are_cut_from_the_top_left(height, width):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, height, width, 5))
    attended = blocks.attend_in_windows(q, k, v, window=4)
    for y in range(0, height, 4):
        for x in range(0, width, 4):
            part = np.s_[:, y : y + 4, x : x + 4]
            expected = blocks.attend(q[part], k[part], v[part])
            np.testing.assert_allclose(attended[part], expected, atol=1e-6)


def test_attention_is_a_softmax_average_of_values():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 2, 3, 4))
    logits = q.reshape(6, 4) @ k.reshape(6, 4).T / np.sqrt(4)
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (weights @ v.reshape(6, 4)).reshape(1, 2, 3, 4)
    np.testing.assert_allclose(blocks.attend(q, k, v), expected, atol=1e-6)


def test_training_attends_over_the_whole_map_and_inference_in_windows():
    block = blocks.AttentionBlock(norm_groups=2, window=4)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 4))
    variables = block.init(jax.random.key(1), x)
    windowed, whole = block.apply(variables, x, False), block.apply(variables, x, True)
    assert jnp.abs(windowed - whole).max() > 1e-3
    small = x[:, :4, :4]
    np.testing.assert_allclose(
        block.apply(variables, small, False), block.apply(variables, small, True), atol=1e-6
    )


@pytest.mark.parametrize("kind", [vqvae.Encoder, vqvae.Generator])
@pytest.mark.parametrize("swish", [True, False])
def test_a_swish_is_behind_the_last_norm_where_the_config_says(kind, swish):
    parts = kind(4, (1, 2), (1, 1), 3, output_swish=swish).parts()
    (norm,) = (part for part in parts if part.name == "norm_out")
    assert norm.fields["activation"] == (nn.swish if swish else None)


class TestVectorQuantizer:
    @pytest.fixture
    def quantizer(self):
        return vqvae.VectorQuantizer(codebook_size=7, channels=3)

    @pytest.fixture
    def variables(self):
        return {"params": {"codebook": jax.random.normal(jax.random.key(0), (7, 3))}}

    @pytest.fixture
    def z(self):
        return jax.random.normal(jax.random.key(1), (2, 4, 5, 3))

    def test_rows_begin_around_0_within_a_row_s_share(self, quantizer, z):
        codebook = quantizer.init(jax.random.key(2), z)["params"]["codebook"]
        assert codebook.shape == (7, 3)
        assert codebook.min() < 0 < codebook.max()
        assert 0.5 < 7 * jnp.abs(codebook).max() <= 1

    def test_takes_the_nearest_row(self, quantizer, variables, z):
        result = quantizer.apply(variables, z)
        codebook = np.asarray(variables["params"]["codebook"])
        distances = ((np.asarray(z)[..., None, :] - codebook) ** 2).sum(-1)
        np.testing.assert_array_equal(result.indices, distances.argmin(-1))
        np.testing.assert_allclose(result.quantized, codebook[result.indices], atol=1e-6)

    def test_loss_and_perplexity_are_their_formulas(self, quantizer, variables, z):
        result = quantizer.apply(variables, z)
        error = np.mean((np.asarray(result.quantized) - np.asarray(z)) ** 2)
        assert result.loss == pytest.approx(1.25 * error, rel=1e-5)
        share = np.bincount(np.asarray(result.indices).ravel(), minlength=7) / result.indices.size
        entropy = -np.sum(share * np.log(share + 1e-10))
        assert result.perplexity == pytest.approx(np.exp(entropy), rel=1e-5)

    def test_gradient_passes_straight_through(self, quantizer, variables, z):
        gradient = jax.grad(lambda z: (quantizer.apply(variables, z).quantized * 3).sum())(z)
        np.testing.assert_array_equal(gradient, np.full(z.shape, 3.0))

    def test_only_the_small_weight_moves_the_codebook(self, quantizer, variables, z):
        def loss(variables, z):
            return quantizer.apply(variables, z).loss

        of_codebook, of_z = jax.grad(loss, argnums=(0, 1))(variables, z)
        np.testing.assert_allclose(
            of_codebook["params"]["codebook"].sum(0), -0.25 * of_z.sum((0, 1, 2)), atol=1e-6
        )
