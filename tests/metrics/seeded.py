"""Inputs made from seeds, the same here and where the PyTorch packages' values were computed.

From `RandomState`, whose streams NumPy has promised never to change.
"""

import numpy as np

from glc_jax.metrics.features.inception import CONVOLUTIONS


def inception_state() -> dict[str, np.ndarray]:
    """Random weights under the published names, scaled so that activations stay of order 1."""
    random = np.random.RandomState(0)
    state = {}
    for name, (height, width), inputs, outputs in CONVOLUTIONS:
        kernel = random.standard_normal((outputs, inputs, height, width))
        state[f"{name}.conv.weight"] = kernel * np.sqrt(2 / (inputs * height * width))
        state[f"{name}.bn.weight"] = random.uniform(0.8, 1.2, outputs)
        state[f"{name}.bn.bias"] = random.normal(0, 0.1, outputs)
        state[f"{name}.bn.running_mean"] = random.normal(0, 0.1, outputs)
        state[f"{name}.bn.running_var"] = random.uniform(0.8, 1.2, outputs)
    return {name: value.astype(np.float32) for name, value in state.items()}


def inception_images() -> dict[str, np.ndarray]:
    """uint8 [1, H, W, 3] of the two patch sizes and of one that is larger than the network's."""
    random = np.random.RandomState(1)
    images = {}
    for name, shape in {"64": (8, 8), "256": (32, 32), "wide": (20, 50)}.items():
        coarse = random.randint(0, 256, (1, *shape, 3)).astype(np.uint8)
        images[name] = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return images


def feature_sets() -> tuple[np.ndarray, np.ndarray]:
    """float64 [300, 48] and [250, 48] with unlike means and correlations."""
    random = np.random.RandomState(2)
    a = random.standard_normal((300, 48)) * np.linspace(0.1, 2, 48) + 1
    b = (random.standard_normal((250, 48)) * 1.1 + 0.9) @ random.standard_normal((48, 48)) / 7
    return a, b


def odd_sized_images() -> tuple[np.ndarray, np.ndarray]:
    """float32 [1, 181, 333, 3] in [0, 1]: both sides are odd at several scales of MS-SSIM."""
    random = np.random.RandomState(3)
    x = random.uniform(0, 1, (1, 23, 42, 3)).repeat(8, axis=1).repeat(8, axis=2)[:, :181, :333]
    y = np.clip(x + random.normal(0, 0.2, x.shape), 0, 1)
    return x.astype(np.float32), y.astype(np.float32)
