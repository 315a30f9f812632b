"""The piece of a picture that perceptual losses see."""

import jax


def jittered(
    x: jax.Array, y: jax.Array, pixels: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The same piece of x and y [B, H, W, C], `pixels` smaller each way, at a random place.

    All samples share the place. A pattern that is locked to the pixel grid, and pays only there,
    pays no longer. Returns [B, H - pixels, W - pixels, C] twice; 0 pixels change nothing.
    """
    if not pixels:
        return x, y
    top, left = jax.random.randint(key, (2,), 0, pixels + 1)
    size = (x.shape[0], x.shape[1] - pixels, x.shape[2] - pixels, x.shape[3])
    pieces = (jax.lax.dynamic_slice(image, (0, top, left, 0), size) for image in (x, y))
    return next(pieces), next(pieces)
