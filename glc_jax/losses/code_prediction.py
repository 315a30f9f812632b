"""The losses that tie a decoded latent to the VQ-VAE's codes (GLC, CVPR 2024, section 3.4)."""

import jax
import jax.numpy as jnp


def latent_mse(decoded: jax.Array, latent: jax.Array) -> jax.Array:
    """Mean squared error of each decoded latent l_hat against l = E(x): float32 [B].

    decoded, latent: [B, h, w, N].
    """
    difference = decoded.astype(jnp.float32) - latent.astype(jnp.float32)
    return jnp.mean(difference**2, axis=(1, 2, 3))


def cross_entropy(logits: jax.Array, indices: jax.Array) -> jax.Array:
    """-ln softmax(logits)[index], in nats, mean over the positions of each sample: float32 [B].

    logits: [B, positions, codes], the code predictor's output. indices: integer [B, positions]
    or [B, h, w] in row-major order, the codebook rows nearest to E(x).
    """
    logits = logits.astype(jnp.float32)
    targets = indices.reshape(logits.shape[:-1])
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen, axis=-1)
