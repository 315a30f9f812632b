import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.losses import code_prediction


def test_cross_entropy_equals_the_golden_value(reference):
    """Of the golden files only the first 64 logits and the log-sum-exp are kept: a table whose
    65th logit carries the rest of the probability has the same cross entropy at those codes."""
    golden = np.load(reference / "golden_a.npz")
    logits, lse = golden["code_logits_first64"], golden["code_logits_lse"]
    rest = np.log(np.exp(lse) - np.exp(logits).sum(-1))
    table = jnp.asarray(np.concatenate([logits, rest[:, None]], -1))[None]
    indices = jnp.arange(256)[None] % 64
    expected = np.mean(lse - logits[np.arange(256), np.arange(256) % 64])
    np.testing.assert_allclose(code_prediction.cross_entropy(table, indices)[0], expected, 1e-5)


def test_latent_mse_equals_the_golden_value(reference):
    golden = np.load(reference / "golden_a.npz")
    latent, decoded = (
        jnp.asarray(golden[name]).transpose(1, 2, 0)[None] for name in ("latent", "latent_hat")
    )
    np.testing.assert_allclose(
        code_prediction.latent_mse(decoded, latent)[0], golden["feat_mse_loss"], rtol=1e-5
    )


def test_cross_entropy_of_each_sample():
    logits = jnp.zeros((2, 4, 8)).at[1, :, 3].set(50.0)
    square = jnp.full((2, 2, 2), 3)
    found = code_prediction.cross_entropy(logits, square)
    np.testing.assert_allclose(found, [np.log(8), 0], atol=1e-6)
    np.testing.assert_allclose(found, code_prediction.cross_entropy(logits, square.reshape(2, 4)))


def test_cross_entropy_gradient_is_probability_minus_target():
    logits = jax.random.normal(jax.random.key(0), (1, 3, 5))
    indices = jnp.array([[4, 0, 2]])
    loss = jax.jit(jax.grad(lambda x: code_prediction.cross_entropy(x, indices).sum()))
    gradient = loss(logits)
    expected = (jax.nn.softmax(logits) - jax.nn.one_hot(indices, 5)) / 3
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
