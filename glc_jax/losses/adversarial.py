"""The hinge losses of generator and discriminator, and the adaptive weight between them.

Hinge: Lim and Ye, "Geometric GAN", 2017 (arXiv 1705.02894). Adaptive weight: Esser, Rombach,
Ommer, "Taming transformers", CVPR 2021 (arXiv 2012.09841), section 3.1.
"""

from typing import Any

import jax
import jax.numpy as jnp

_EPSILON = 1e-4
_MAX_WEIGHT = 1.0


def discriminator_hinge(real_logits: Any, fake_logits: Any) -> jax.Array:
    """(mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake))) / 2: float32 scalar.

    The logits may have any shape; each mean is over all of their patches and images. Of a list of
    logits each counts alike.
    """
    real = [jnp.mean(jax.nn.relu(1 - one)) for one in _floats(real_logits)]
    fake = [jnp.mean(jax.nn.relu(1 + one)) for one in _floats(fake_logits)]
    return 0.5 * (sum(real) / len(real) + sum(fake) / len(fake))


def generator_hinge(fake_logits: Any) -> jax.Array:
    """-D(fake) of each image, the mean over its patches: float32 [B] from [B, h, w, 1].

    Of a list of logits each counts alike.
    """
    found = [-jnp.mean(one.reshape(one.shape[0], -1), axis=1) for one in _floats(fake_logits)]
    return sum(found) / len(found)


def _floats(logits: Any) -> list[jax.Array]:
    return [one.astype(jnp.float32) for one in jax.tree.leaves(logits)]


def adaptive_weight(pixel_gradient: Any, adversarial_gradient: Any) -> jax.Array:
    """The adversarial loss's weight that lets both losses pull equally hard: float32 scalar.

    |pixel_gradient| / (|adversarial_gradient| + 1e-4), clamped to [0, 1], itself without
    gradient. Both are gradients (arrays or trees) with respect to the same parameter, usually
    the kernel of the generator's last convolution: of L1 + LPIPS, and of `generator_hinge`.
    Under pmap average the gradients over the devices first.
    """
    return _ratio(_norm(pixel_gradient), _norm(adversarial_gradient))


def adaptive_weight_per_sample(
    pixel_gradient: jax.Array, adversarial_gradient: jax.Array
) -> jax.Array:
    """`adaptive_weight` of each sample: float32 [B] from gradients [B, ...] at the latent.

    Only meaningful for gradients of losses summed, not averaged, over the batch, or of both
    averaged alike: the factor 1/B would shift the weight through the 1e-4.
    """
    return _ratio(jax.vmap(_norm)(pixel_gradient), jax.vmap(_norm)(adversarial_gradient))


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(
        sum(jnp.sum(jnp.abs(leaf.astype(jnp.float32)) ** 2) for leaf in jax.tree.leaves(tree))
    )


def _ratio(pixel: jax.Array, adversarial: jax.Array) -> jax.Array:
    return jax.lax.stop_gradient(jnp.clip(pixel / (adversarial + _EPSILON), 0, _MAX_WEIGHT))
