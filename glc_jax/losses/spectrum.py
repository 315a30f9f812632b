"""The power that a reconstruction has too much of: it punishes hatching, which other losses miss.

A decoder without the bits for a texture learns a regular hatching, since it excites the filters of
LPIPS and DISTS as the texture does. In a local power spectrum the hatching is a few high peaks
where the texture is broad. Power has no phase, so that no pixel has to be right, and a blurred
texture costs nothing here: sharpness stays with the other losses. The estimate of the spectrum,
averages over overlapping windows, is Welch's (IEEE Trans. Audio Electroacoust. 15, 1967).
"""

import jax
import jax.numpy as jnp
import numpy as np

_WINDOW, _HOP = 32, 16  # pixels a side
SMALLEST = _WINDOW + _HOP

# Which of the 32x17 frequencies of a window count.
_FINE = np.hypot(np.fft.fftfreq(_WINDOW)[:, None], np.fft.rfftfreq(_WINDOW)) >= 1 / 8

# Added to each power: that of noise with a deviation of one grey level, which nobody sees.
_FLOOR = 3 * (2 / 255) ** 2


def spectral_excess(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean max(0, ln(P_x / P_y)) over neighbourhoods and fine frequencies: float32 [B].

    x, y: [B, H, W, 3] in [-1, 1], H and W at least 48; only x receives a gradient. P is the power
    of Hann windows of 32x32 pixels without their means, summed over the colours and averaged over
    the 2x2 windows of a neighbourhood of 48x48. Fine are waves of at most 8 pixels. Rows and
    columns beyond a multiple of 16 do not count. Raises ValueError for smaller images.
    """
    if min(x.shape[1:3]) < SMALLEST:
        raise ValueError(f"the images have {x.shape[1:3]} pixels; it takes {SMALLEST} a side")
    power_x, power_y = (_power(image) + _FLOOR for image in (x, jax.lax.stop_gradient(y)))
    excess = jax.nn.relu(jnp.log(power_x / power_y))
    return jnp.mean(excess[..., _FINE], axis=(1, 2, 3))


def _power(images: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, H / 16 - 2, W / 16 - 2, 32, 17], for white noise its variance times C."""
    windows = jnp.moveaxis(images.astype(jnp.float32), -1, 1)
    windows = _overlapping(_overlapping(windows, 2), 4)  # [B, C, rows, 32, columns, 32]
    windows = jnp.swapaxes(windows, 3, 4)
    hann = np.hanning(_WINDOW + 1)[:-1]
    weights = np.outer(hann, hann) / np.sum(hann**2)
    windows = (windows - jnp.mean(windows, axis=(-2, -1), keepdims=True)) * jnp.float32(weights)
    transformed = jnp.fft.rfft2(windows)
    power = jnp.sum(jnp.real(transformed) ** 2 + jnp.imag(transformed) ** 2, axis=1)
    power = (power[:, 1:] + power[:, :-1]) / 2
    return (power[:, :, 1:] + power[:, :, :-1]) / 2


def _overlapping(x: jax.Array, axis: int) -> jax.Array:
    """`axis` as windows that overlap by half: size -> (size / 16 - 1, 32)."""
    count = x.shape[axis] // _HOP
    x = jax.lax.slice_in_dim(x, 0, count * _HOP, axis=axis)
    halves = x.reshape(*x.shape[:axis], count, _HOP, *x.shape[axis + 1 :])
    first = jax.lax.slice_in_dim(halves, 0, count - 1, axis=axis)
    second = jax.lax.slice_in_dim(halves, 1, count, axis=axis)
    return jnp.concatenate([first, second], axis=axis + 1)
