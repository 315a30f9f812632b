"""Multi-scale structural similarity.

Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment",
Asilomar 2003, as the package pytorch-msssim computes it.
"""

import jax
import jax.numpy as jnp
import numpy as np

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first
WINDOW = 11
SIGMA = 1.5
MIN_SIZE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1  # 161: the window must fit the coarsest

_C1 = 0.01**2
_C2 = 0.03**2


def ms_ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """MS-SSIM of each pair of images: float32 [B], 1 for equal images.

    x, y: [B, H, W, C] in [0, 1], H and W at least MIN_SIZE; raises ValueError for smaller ones.
    Computed for each channel, then averaged.
    """
    if min(x.shape[1:3]) < MIN_SIZE:
        raise ValueError(f"MS-SSIM needs {MIN_SIZE} pixels on each side, not {x.shape[1:3]}")
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    product = jnp.ones((x.shape[0], x.shape[3]), jnp.float32)
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, contrast_structure = _ssim_terms(x, y)
        term = contrast_structure
        if scale == len(WEIGHTS) - 1:
            term = luminance * contrast_structure
        product *= jax.nn.relu(jnp.mean(term, axis=(1, 2))) ** weight
    return jnp.mean(product, axis=1)


def _ssim_terms(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(jnp.stack([x, y, x * x, y * y, x * y]))
    var_x = mean_xx - mean_x**2
    var_y = mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    contrast_structure = (2 * covariance + _C2) / (var_x + var_y + _C2)
    return luminance, contrast_structure


def _blur(x: jax.Array) -> jax.Array:
    """The Gaussian window along rows and columns of [..., H, W, C], without padding.

    All that is not height or width becomes the batch of a one-channel convolution.
    """
    offsets = np.arange(WINDOW, dtype=np.float32) - WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SIGMA**2))
    window /= window.sum()
    planes = jnp.moveaxis(x, -1, -3)
    shape = planes.shape[:-2]
    planes = planes.reshape(-1, 1, *planes.shape[-2:])
    for kernel in (window[:, None], window[None, :]):
        planes = jax.lax.conv(
            planes, kernel[None, None], (1, 1), "VALID", precision=jax.lax.Precision.HIGHEST
        )
    return jnp.moveaxis(planes.reshape(*shape, *planes.shape[-2:]), -3, -1)


def _halve(x: jax.Array) -> jax.Array:
    """Mean of 2x2 pixels. An odd size is padded with zeros on both sides, and the last row of
    padding left over, as the published package does."""
    _, height, width, _ = x.shape
    x = jnp.pad(x, ((0, 0), (height % 2,) * 2, (width % 2,) * 2, (0, 0)))
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    return 0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
