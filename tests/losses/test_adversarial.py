import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.losses import adversarial


def test_discriminator_is_content_beyond_the_margin():
    real, fake = jnp.array([[1.0, 3.0]]), jnp.array([[-1.0, -5.0]])
    assert adversarial.discriminator_hinge(real, fake) == 0
    np.testing.assert_allclose(adversarial.discriminator_hinge(fake, real), (4 + 3) / 2)
    zero = jnp.zeros((2, 3, 3, 1))
    np.testing.assert_allclose(adversarial.discriminator_hinge(zero, zero), 1)


def test_discriminator_learns_nothing_from_beyond_the_margin():
    logits = jnp.array([0.5, 1.5])
    gradient = jax.grad(adversarial.discriminator_hinge)(logits, jnp.full(2, -2.0))
    np.testing.assert_allclose(gradient, [-0.25, 0])


def test_generator_gets_each_images_mean():
    logits = jnp.stack([jnp.full((3, 3, 1), 2.0), jnp.eye(3)[..., None]])
    np.testing.assert_allclose(adversarial.generator_hinge(logits), [-2, -1 / 3], rtol=1e-6)


def test_weight_is_the_ratio_of_norms_within_bounds():
    pixel = {"kernel": jnp.array([3.0, 4.0]), "bias": jnp.zeros(2)}
    strong = {"kernel": jnp.array([0.0, 20.0]), "bias": jnp.zeros(2)}
    np.testing.assert_allclose(adversarial.adaptive_weight(pixel, strong), 5 / (20 + 1e-4))
    assert adversarial.adaptive_weight(strong, pixel) == 1
    nothing = jax.tree.map(jnp.zeros_like, pixel)
    assert adversarial.adaptive_weight(nothing, nothing) == 0
    assert adversarial.adaptive_weight(pixel, nothing) == 1


def test_weight_per_sample():
    pixel = jnp.array([[3.0, 4.0], [1.0, 0.0]])[:, None, None, :]
    adverse = jnp.array([[0.0, 10.0], [0.0, 0.5]])[:, None, None, :]
    found = adversarial.adaptive_weight_per_sample(pixel, adverse)
    np.testing.assert_allclose(found, [5 / (10 + 1e-4), 1])


def test_weight_passes_no_gradient():
    def loss(pixel):
        return adversarial.adaptive_weight(pixel, jnp.full(3, 9.0))

    np.testing.assert_array_equal(jax.grad(loss)(jnp.arange(3.0)), 0)
    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros(3)), 0)
